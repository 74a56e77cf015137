"""Index of a run's checkpoints: the last, the best, and those that someone has removed.

RUN/checkpoints/index.json       {"last": name, "best": name, "monitor": ..., "value": ...}
RUN/checkpoints/step-00000100/   a model folder (see folder.py), with the training state in it (see training.py)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from align.files import read_json


def read_index(run: Path) -> dict[str, Any]:
    """Return the content of RUN/checkpoints/index.json, {} where there is none."""
    path = run / "checkpoints" / "index.json"
    return read_json(path) if path.is_file() else {}


def find_checkpoint(run: Path, checkpoint: str = "best") -> Path:
    """Return the folder of a run's checkpoint: "best", "last", or a step. Raises ValueError, which lists the steps."""
    known = read_index(run)
    named = checkpoint in ("best", "last")
    if named:
        name = known.get(checkpoint) or known["last"]
    else:
        name = f"step-{int(checkpoint):08d}" if checkpoint.isdigit() else checkpoint
    path = run / "checkpoints" / name
    if not (path / "model.json").is_file():
        steps = [int(left[5:]) for left in _list_present(run)]
        if named:
            raise ValueError(f"{run}: its {checkpoint} checkpoint, {name}, is gone; the steps {steps} are there")
        raise ValueError(f"{run} has no checkpoint {checkpoint!r}; it has best, last and the steps {steps}")
    return path


def _list_present(run: Path) -> list[str]:
    """Return the names of the checkpoints that are there, by step."""
    return sorted(path.parent.name for path in (run / "checkpoints").glob("step-*/model.json"))


def drop_lost(run: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the index without the checkpoints that someone has removed, and a line for each of them.

    Raises ValueError where none is left.
    """
    known, left, lines = read_index(run), _list_present(run), []
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
