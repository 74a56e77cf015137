"""Index of a run's checkpoints: the last, the best, and those that are gone or damaged.

RUN/checkpoints/index.json      {"last", "best", "monitor", "value", "damaged": [names], "sha256": of the rest}
RUN/checkpoints/step-00000100/  a model folder (see folder.py), with the training state in it (see training.py)
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from align.checkpoint.migrate import migrate
from align.checkpoint.sums import find_damage, sum_json
from align.files import read_json, write_json

KEYS = {"last", "best", "monitor", "value", "damaged"}


def read_index(run: Path) -> dict[str, Any]:
    """Return the content of RUN/checkpoints/index.json, {} where there is none.

    Where it is damaged, it is made anew from the checkpoints that are there.
    """
    return _read(run)[0]


def write_index(run: Path, known: Mapping[str, Any]) -> None:
    """Write RUN/checkpoints/index.json, with the checksum of its content."""
    write_json(run / "checkpoints" / "index.json", {**known, "sha256": sum_json(dict(known))})


def point(run: Path, folder: Path, state: Mapping[str, Any], keep: int, better: bool | None) -> None:
    """Point the index at a checkpoint, and remove those that need not stay.

    ``keep`` counts good ones up to this step. Damaged ones go with the next good one, but for a best one whose model is
    good.
    """
    known = read_index(run) | {"last": folder.name}
    if better:
        known |= {"best": folder.name, "monitor": state.get("monitor"), "value": state.get("value")}
    damaged = [name for name in known.pop("damaged", []) if name != folder.name]
    write_index(run, known)
    found = [path for path in sorted((run / "checkpoints").glob("step-*")) if _is_checkpoint(path.name)]
    good = [path for path in found if path.name <= folder.name and path.name not in damaged]
    best = known.get("best")
    stay = {path.name for path in good[-max(1, keep) :]} | {best, folder.name}
    for path in found:
        old = path.name <= folder.name and path.name not in stay
        if old or (path.name in damaged and path.name != best):
            shutil.rmtree(path, ignore_errors=True)


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
        steps = [int(left[5:]) for left in list_present(run)]
        if named:
            raise ValueError(f"{run}: its {checkpoint} checkpoint, {name}, is gone; the steps {steps} are there")
        raise ValueError(f"{run} has no checkpoint {checkpoint!r}; it has best, last and the steps {steps}")
    return path


def describe_others(folder: Path) -> str:
    """Return the end of a message about a damaged model: the other checkpoints of its run, if it is one of a run."""
    if folder.parent.name != "checkpoints":
        return "copy it again"
    steps = [int(name[5:]) for name in list_present(folder.parents[1]) if name != folder.name]
    return f"--checkpoint N reads another step of the run: {steps}" if steps else "the run has no other checkpoint"


def list_present(run: Path) -> list[str]:
    """Return the names of the checkpoints that are there, by step."""
    names = (path.parent.name for path in (run / "checkpoints").glob("step-*/model.json"))
    return sorted(name for name in names if _is_checkpoint(name))


def _is_checkpoint(name: str) -> bool:
    """Return False for a folder that a person has made, such as a copy named step-00000100-backup."""
    return re.fullmatch(r"step-\d{8,}", name) is not None


def drop_lost(run: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the index without the checkpoints that are gone or damaged, and a line for each of them.

    The last checkpoint is read whole, of the best one the model. ``damaged`` lists those that failed.
    Raises ValueError where none is left, and for a checkpoint that a newer align has written.
    """
    left = list_present(run)
    known, lines = _read(run)
    if not known and left:
        known, lines = _rebuild(run), [f"{run} has no index of its checkpoints: it is made anew from those there"]
    if not known:
        return {}, []
    if not left:
        raise ValueError(f"{run} has an index of checkpoints, but none of them is left; --fresh starts over")
    last, damaged, reasons = known["last"], set(known.get("damaged", [])), []
    usable = [name for name in left if name not in damaged]
    if last not in left:
        reasons.append(f"{run}: its last checkpoint, {last}, is gone")
    else:
        usable = [name for name in usable if name <= last]
    good = None
    for name in reversed(usable):
        line = find_damage(run / "checkpoints" / name)
        if line is None:
            good = name
            break
        damaged.add(name)
        reasons.append(line)
    if good is None:
        raise ValueError(f"{'; '.join(reasons) or run}: no good checkpoint is left; --fresh starts over")
    if reasons:
        lines += [*reasons[:-1], f"{reasons[-1]}; it goes on from {good}"]
        known["last"] = good
    best = known.get("best")
    if best is not None and best != good:
        line = find_damage(run / "checkpoints" / best, training=False) if best in left else "is gone"
        if line is not None:
            damaged |= {best} if best in left else set()
            why = f"{run}: its best checkpoint, {best}, is {'damaged' if best in left else 'gone'}"
            lines.append(f"{why}{f' ({line})' if best in left else ''}; until a validation the last one counts as best")
            known = {key: value for key, value in known.items() if key not in ("best", "monitor", "value")}
    if damaged:
        known["damaged"] = sorted(damaged)
    return known, lines


def _read(run: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the index, and a line where it is damaged and so made anew."""
    path = run / "checkpoints" / "index.json"
    if not path.is_file():
        return {}, []
    try:
        known = read_json(path)
        stated = known.pop("sha256", None)  # None: of an older align, or somebody has written it
        if _is_index(known) and stated in (None, sum_json(known)):
            return known, []
    except (ValueError, KeyError, AttributeError, TypeError):
        pass
    return _rebuild(run), [f"{path} is damaged: it is made anew from the checkpoints that are there"]


def _is_index(known: Mapping[str, Any]) -> bool:
    """Return False where a key is unknown, or a name of a checkpoint is no string."""
    best, damaged = known.get("best"), known.get("damaged", [])
    names = [known["last"], *([] if best is None else [best]), *damaged]
    return set(known) <= KEYS and isinstance(damaged, list) and all(isinstance(name, str) for name in names)


def _rebuild(run: Path) -> dict[str, Any]:
    """Return the index of the good checkpoints that are there: the newest, and the best by the values in their states.

    Raises ValueError where there is none.
    """
    states = {}
    for name in list_present(run):
        folder = run / "checkpoints" / name
        if find_damage(folder) is None:
            states[name] = migrate(read_json(folder / "training" / "state.json"), folder)
    if not states:
        raise ValueError(f"{run}: neither its index of checkpoints nor a checkpoint is good; --fresh starts over")
    last = max(states)
    monitor = states[last].get("monitor")
    sign = -1 if states[last].get("mode") == "max" else 1
    scored = [
        (sign * state["value"], name)
        for name, state in states.items()
        if state.get("monitor") == monitor and isinstance(state.get("value"), (int, float))
    ]
    best = min(scored)[1] if scored else None
    return {"last": last} | ({"best": best, "monitor": monitor, "value": states[best]["value"]} if best else {})
