"""Which checkpoints a run has, and which is best.

RUN/checkpoints/index.json       {"last": name, "best": name, "monitor": ..., "value": ...}
RUN/checkpoints/step-00000100/   a model folder (see folder.py), with the training state in it (see training.py)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from align.files import read_json


def index(run: Path) -> dict[str, Any]:
    """What RUN/checkpoints/index.json says; {} where there is none."""
    path = run / "checkpoints" / "index.json"
    return read_json(path) if path.is_file() else {}


def choose(run: Path, checkpoint: str = "best") -> Path:
    """The folder of a run's checkpoint: "best", "last", or a step. Raises ValueError naming the steps there are."""
    known = index(run)
    named = checkpoint in ("best", "last")
    if named:
        name = known.get(checkpoint) or known["last"]
    else:
        name = f"step-{int(checkpoint):08d}" if checkpoint.isdigit() else checkpoint
    path = run / "checkpoints" / name
    if not (path / "model.json").is_file():
        steps = [int(left[5:]) for left in there(run)]
        if named:
            raise ValueError(f"{run}: its {checkpoint} checkpoint, {name}, is gone; the steps {steps} are there")
        raise ValueError(f"{run} has no checkpoint {checkpoint!r}; it has best, last and the steps {steps}")
    return path


def there(run: Path) -> list[str]:
    """The names of the checkpoints that are there, by step."""
    return sorted(path.parent.name for path in (run / "checkpoints").glob("step-*/model.json"))


def mended(run: Path) -> tuple[dict[str, Any], list[str]]:
    """The index without the checkpoints that someone has removed, and a line for each of them.

    Raises ValueError where none is left.
    """
    known, left, lines = index(run), there(run), []
    if known and not left:
        raise ValueError(f"{run} has an index of checkpoints, but none of them is left; --fresh starts over")
    if known and known["last"] not in left:
        lines.append(f"{run}: its last checkpoint, {known['last']}, is gone; it goes on from {left[-1]}")
        known["last"] = left[-1]
    if known.get("best") not in (None, *left):
        lines.append(
            f"{run}: its best checkpoint, {known['best']}, is gone; until a validation the last one counts as best"
        )
        known = {key: value for key, value in known.items() if key not in ("best", "monitor", "value")}
    return known, lines
