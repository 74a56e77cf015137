"""Facts of a run from its folder: its length, its checkpoints, its config, and the steps that it skipped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import yaml

from align.checkpoint import list_present, read_index
from align.diagnostics.lines import read_lines
from align.files import read_json
from align.page.section import Table
from align.report.curves import Points


class Length(NamedTuple):
    """Length of a run. step: the last one on disk. steps: of the whole run, None where no checkpoint says it."""

    step: int
    steps: int | None
    batch: int | None
    seconds: float | None

    def describe(self) -> dict[str, str]:
        """Return the facts in words, by name."""
        out = {"steps": f"{self.step:,}" + (f" of {self.steps:,}" if self.steps not in (None, self.step) else "")}
        if self.batch is not None:
            out["samples"] = f"{self.step * self.batch:,} in batches of {self.batch:,}"
        if self.seconds is not None:
            out["time in steps"] = write_seconds(self.seconds)
        return out


def write_seconds(seconds: float) -> str:
    """Return "48 s", "12 min" or "3.4 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def read_config(run: Path) -> dict[str, Any]:
    """Return the content of RUN/config.yaml, {} where there is none."""
    path = run / "config.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    return content if isinstance(content, dict) else {}


def read_length(run: Path, columns: Mapping[str, Points], config: Mapping[str, Any]) -> Length:
    """Return the length of a run from its checkpoints, its metrics.csv and its config."""
    steps = [int(x) for points in columns.values() for x, _ in points[-1:]]
    batch = (config.get("data") or {}).get("batch")
    batch = batch if isinstance(batch, int) else None
    last = read_index(run).get("last")
    state = run / "checkpoints" / str(last) / "training" / "state.json"
    try:
        about = read_json(state)
    except FileNotFoundError:  # no checkpoint yet, or the run has removed it meanwhile
        about = {}
    speeds = [speed for _, speed in columns.get("samples_per_second", []) if speed > 0]
    seconds = sum(batch / speed for speed in speeds) if batch and speeds else None
    return Length(max([*steps, about.get("step", 0)]), about.get("steps"), batch, seconds)


def list_checkpoints(run: Path) -> Table:
    """Return the checkpoints as rows: step, monitored value, size, and those that are the last and the best.

    A run that trains removes old ones meanwhile: such a checkpoint is left out.
    """
    known, rows = read_index(run), []
    monitor = str(known.get("monitor") or "value")
    for folder in (run / "checkpoints" / name for name in list_present(run)):
        try:
            about = read_json(folder / "training" / "state.json")
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        except FileNotFoundError:
            continue
        value = about.get("value") if about.get("monitor") == known.get("monitor") else None
        if value is None and folder.name == known.get("best"):
            value = known.get("value")
        marks = [word for word in ("best", "last") if known.get(word) == folder.name]
        shown = f"{value:.4f}" if isinstance(value, float) else "–"
        rows.append([str(about["step"]), shown, f"{size / 2**20:.2f}", ", ".join(marks)])
    return Table(["step", monitor, "MiB", ""], rows, left=0)


def list_skipped(run: Path, most: int = 50) -> Table:
    """Return the steps that were skipped, from RUN/skipped.jsonl, the last ones where there are many."""
    found = read_lines(run / "skipped.jsonl")
    head = list(dict.fromkeys(key for entry in found for key in entry))
    return Table(head, [[_text(entry.get(key)) for key in head] for entry in found[-most:]], left=len(head))


def _text(value: Any, most: int = 120) -> str:
    """Return a value of JSON as a few words."""
    if isinstance(value, dict):
        text = ", ".join(f"{key}: {_text(item)}" for key, item in value.items())
    elif isinstance(value, list):
        text = ", ".join(map(_text, value[:5])) + (f" and {len(value) - 5} more" if len(value) > 5 else "")
    elif isinstance(value, float):
        text = f"{value:.4g}"
    else:
        text = "" if value is None else str(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def middle(points: Points) -> float:
    """Return the median of the values."""
    return median(value for _, value in points)
