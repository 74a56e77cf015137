"""``align report RUN`` writes one page about a run: curves, diagnostics, alarms, checkpoints, data and config."""

from __future__ import annotations

from pathlib import Path

from align.commands.errors import Refused


def report(folder: str, /, *, out: str | None = None) -> None:
    """Write one page about a run: curves, diagnostics, alarms, checkpoints, data, config

    It reads files alone, so it works while the run trains. RUN/report.html of align evaluate stays as it is.

    Args:
        folder: the folder of a training run
        out: the page to write, or a folder for it. Default: RUN/run.html
    """
    import sys

    from align.checkpoint import read_index
    from align.report.curves import read
    from align.report.run import NAME, read_facts, write_run
    from align.report.run_facts import read_config

    run = Path(folder)
    if not run.is_dir():
        raise Refused(f"no folder {folder}; align report takes the folder of a run, which align train --run DIR makes")
    path = None if out is None else Path(out)
    if path is not None and (path.is_dir() or not path.suffix):
        path = path / NAME
    written = write_run(run, path)
    for name, value in read_facts(run, read(run / "metrics.csv"), read_config(run)).items():
        print(f"{name}: {value}")
    if not read_index(run):
        print("checkpoints: none yet")
    print("wrote", written, file=sys.stderr)
