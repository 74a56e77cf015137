"""``align sweep CONFIG KEY=VALUES… --out DIR`` trains a config with other values of its keys, and keeps the best."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from align.commands.errors import Refused

if TYPE_CHECKING:
    from align.report.sweep import Trial
    from align.sweep import Settings, Study, Tried

FAILURES = 3
"""Trials that fail one after another at the begin of a sweep, before it stops."""


def sweep(
    config: str,
    over: list[str],
    /,
    *,
    out: str,
    trials: int = 20,
    score: str | None = None,
    mode: Literal["min", "max"] | None = None,
    sampler: Literal["tpe", "random", "grid"] = "tpe",
    prune: bool = False,
    seed: int = 0,
) -> int:
    """Search over the keys of a config: a run for each choice of values

    Each trial is a run of align train in DIR/trial-0000 and so on, with its output in trial-0000.log. sweep.json has
    all trials, sweep.html shows them. A stopped sweep goes on with the same command, in the middle of its trial. A
    larger --trials adds trials.

    Values of a key: A,B,C for choices, LOW..HIGH for a range, LOW..HIGH:log for equal steps for equal factors. A range
    between whole numbers has whole numbers alone, 0.0..1.0 has fractions. One value is the same in all trials.

    Args:
        config: the YAML file of a training run
        over: keys and their values, as in optim.lr=1e-4..1e-2:log model.dim=64,128 trainer.max_steps=500
        out: the folder of the sweep
        trials: number of trials in all; a grid has at most its combinations
        score: the column of metrics.csv to search by, each trial's best. Default: the config's checkpoint.monitor
        mode: min or max. Default: the config's checkpoint.mode, and max for a --score that is no loss
        sampler: tpe learns from the trials before (Bergstra et al. 2011), random does not, grid takes all combinations
        prune: end a trial early that is worse than the median of the others at its step
        seed: of the proposals. The runs have the seed of their config, or that of seed=0,1,2
    """
    from align.sweep import open_study

    if trials < 1:
        raise Refused(f"--trials is at least 1; got {trials}", code=2)
    settings = _read_settings(config, over, score, mode, sampler, seed, prune)
    folder = Path(out)
    study = open_study(folder, settings)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(settings.config, encoding="utf-8")
    with _listening() as received:
        code = _run(study, trials, received)
    _show(study)
    return code


def _read_settings(
    config: str, over: list[str], score: str | None, mode: Any, sampler: Any, seed: int, prune: bool
) -> Settings:
    """Check the config and every value of every key against the parser of ``align train``, and return the settings."""
    from align.commands.config import check_config, check_options, make_parser, parse_args
    from align.sweep import Choice, Settings, read_space
    from align.sweep.trial import write_value

    try:
        space = read_space(over)
    except ValueError as error:
        raise Refused(str(error), code=2) from error
    parser = make_parser()
    check_config(parser, config)
    ends = {
        key: values.values if isinstance(values, Choice) else (values.low, values.high) for key, values in space.items()
    }
    monitors = []
    for i in range(max(map(len, ends.values()))):  # each value is in one of these command lines
        args = [f"--{key}={write_value(_as_whole(values[min(i, len(values) - 1)]))}" for key, values in ends.items()]
        check_options(parser, args)
        monitors.append(parse_args(parser, ["--config", config, *args]).checkpoint)
    if score is None and len({(m.monitor, m.mode) for m in monitors}) > 1:
        raise Refused("the trials have different values of checkpoint.monitor; give --score and --mode", code=2)
    chosen = score or monitors[0].monitor
    if mode is None:
        same = score in (None, monitors[0].monitor)
        mode = monitors[0].mode if same else "min" if chosen.endswith("loss") else "max"
    return Settings(Path(config).read_text(encoding="utf-8"), space, chosen, mode, sampler, seed, prune)


def _as_whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value


@contextmanager
def _listening() -> Iterator[list[int]]:
    """Yield a list that gets the number of each SIGINT and SIGTERM."""
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda got, frame: received.append(got)) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(study: Study, trials: int, received: list[int]) -> int:
    """Run the trials that are missing, and return the exit code."""
    from align.sweep.trial import run_trial

    while True:
        left = any(trial.state == "running" for trial in study.trials) or len(study.trials) < trials
        trial = study.start() if left else None
        if trial is None:
            break
        print(f"{trial.run}: {_write_values(trial)}", file=sys.stderr, flush=True)
        ended = run_trial(study, trial, asked=lambda: received[0] if received else 0)
        if ended.stopped:
            print(f"stopped in {trial.run}; the same command continues", file=sys.stderr)
            return 128 + received[0] if received else abs(ended.code)
        print(f"{trial.run}: {_describe(study, trial)}", file=sys.stderr, flush=True)
        if [t.state for t in study.trials] == ["failed"] * FAILURES:
            log = study.folder / f"{trial.run}.log"
            raise Refused(f"the first {FAILURES} trials failed, the last one with: {trial.reason} (see {log})")
    return 0 if study.best else 1


def _write_values(trial: Tried) -> str:
    from align.sweep.trial import write_value

    return ", ".join(f"{key} {_short(write_value(value))}" for key, value in trial.values.items())


def _short(text: str) -> str:
    """Return a number with 4 digits, and any other text as it is."""
    try:
        number = float(text)
    except ValueError:
        return text
    return text if number.is_integer() and "e" not in text else f"{number:.4g}"


def _describe(study: Study, trial: Tried) -> str:
    if trial.state == "failed":
        return f"failed: {trial.reason}"
    value = f"{study.settings.score} {trial.value:.4f} at step {trial.step}" if trial.value is not None else "no score"
    if trial.state == "pruned":
        return f"{value}; it was worse than the median and ended early"
    return f"{value}{', the best so far' if study.best is trial else ''}"


def _show(study: Study) -> None:
    """Print the trials, write the page, and say how to go on from the best."""
    from align.commands.tables import print_tables
    from align.page.section import Section
    from align.report.sweep import list_trials, rank, write_sweep
    from align.sweep.importance import find_importances

    settings, shown = study.settings, [_trial(trial) for trial in study.trials]
    if not shown:
        return
    table = list_trials(rank(shown, settings.mode), settings.score)
    print_tables([Section("Trials", "", [table])])
    facts = {"score": f"{settings.score} ({settings.mode})", "trials": len(shown), "sampler": settings.sampler}
    page = write_sweep(
        study.folder / "sweep.html",
        shown,
        score=settings.score,
        mode=settings.mode,
        importances=find_importances(study),
        facts=facts,
    )
    print("wrote", study.folder / "sweep.json", page, file=sys.stderr)
    if study.best is not None:
        print(f"best: {study.folder / study.best.run}; next: align evaluate {_quote(study)} SHARDS")


def _quote(study: Study) -> str:
    return shlex.quote(str(study.folder / (study.best.run if study.best else "")))


def _trial(trial: Tried) -> Trial:
    from align.report.sweep import Trial
    from align.sweep.trial import write_value

    values = {key: _short(write_value(value)) for key, value in trial.values.items()}
    state = "stopped" if trial.state == "running" else trial.state  # it goes on with the same command
    return Trial(trial.run, state, trial.value, trial.step, values, trial.reached, trial.reason)
