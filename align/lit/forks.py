"""Fork of a run: a new run folder that goes on from a checkpoint of another run."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from align.checkpoint import find_checkpoint, find_damage, read_index, read_state, write_index
from align.diagnostics.read import ALARMS, MEASURES
from align.encoders.weights import read_tensors
from align.files import atomic_folder, atomic_write, read_json, write_json
from align.lit.first import is_first
from align.lit.log import keep_until
from align.lit.resume import Earlier, find
from align.model.inside import weights

WAIT = 600  # seconds that a rank waits for the first one to copy


class Fork(NamedTuple):
    """A checkpoint that a run is forked from. run: its run folder, absolute. step: the checkpoint's."""

    run: Path
    step: int


def check_begin(*, fresh: bool, start: str | None, fork: str | None) -> None:
    """Raise ValueError where ``fork`` is given beside another option that says how a run begins."""
    given = [name for name, value in (("--fork", fork), ("--start", start), ("--fresh", fresh)) if value]
    if fork and len(given) > 1:
        raise ValueError(f"{given[0]} and {given[1]} both say how the run begins: give one of them")


def find_fork(fork: str, run: Path) -> Fork | None:
    """Return the checkpoint that ``--fork`` names. None: the run folder is this fork already, and goes on.

    fork: a run folder for its last checkpoint, ``RUN@STEP``, or a checkpoint's folder ``RUN/checkpoints/step-N``.
    Raises FileNotFoundError where there is no run, ValueError where it has no such checkpoint, for a run forked into
    itself, and for a run folder that has checkpoints of its own.
    """
    name, _, step = fork.rpartition("@") if fork.rpartition("@")[2].isdigit() else (fork, "", "")
    source = Path(name).resolve()
    if source.parent.name == "checkpoints" and source.name.startswith("step-"):
        source, step = source.parents[1], source.name
    if source == run.resolve():
        raise ValueError(f"--fork {fork}: a run cannot be forked into itself; name another --run")
    if read_index(run):
        return _check_same(fork, source, step, run)
    if not read_index(source):
        raise FileNotFoundError(f"--fork {fork}: {source} is no run folder with checkpoints")
    folder = find_checkpoint(source, step or "last")
    return Fork(source, read_state(folder)["step"])


def _check_same(fork: str, source: Path, step: str, run: Path) -> None:
    """Raise ValueError where the checkpoints of a run folder are those of another run than this fork."""
    path = run / "fork.json"
    record = read_json(path) if path.is_file() else {}
    asked = int(step.removeprefix("step-")) if step else record.get("step")
    if record != {"run": str(source), "step": asked}:
        was = f"it was forked from {record['run']}@{record['step']}" if record else "it is no fork"
        raise ValueError(f"--fork {fork}: {run} has checkpoints already, and {was}; name another --run")


def read_source(fork: Fork, model: nn.Module, objective: nn.Module) -> Earlier:
    """Return the forked checkpoint as the last one of a run. Raises ValueError where it is of another model."""
    folder = find_checkpoint(fork.run, str(fork.step))
    if line := find_damage(folder):
        raise ValueError(f"--fork: {line}; name another step of {fork.run}")
    for kind, module, name in (("model", model, "model"), ("objective", objective, "training/objective")):
        theirs = {key: x.shape for key, x in read_tensors(folder / f"{name}.safetensors").items()}
        ours = {key: x.shape for key, x in weights(module).items()}
        other = [key for key in (*ours, *theirs) if ours.get(key) != theirs.get(key)]
        if other:
            was, now = (str(tuple(x[other[0]])) if other[0] in x else "not there" for x in (theirs, ours))
            raise ValueError(
                f"--fork: {folder} was trained with another {kind} than this config's: {other[0]} is {was} in it, and "
                f"{now} in the config"
            )
    return Earlier(folder, read_state(folder))


def copy_run(fork: Fork, run: Path) -> Earlier:
    """Copy a checkpoint with all that the run has written up to it, and return it as the last one of `run`.

    The best checkpoint is copied too, if it is not a later one. The source is only read. The index is written last, so
    an interrupted copy is made anew. The first rank copies, and the others wait.
    Raises TimeoutError on a rank that waits for more than ten minutes.
    """
    if not is_first():
        begin = time.monotonic()
        while not read_index(run):
            if time.monotonic() - begin > WAIT:
                raise TimeoutError(f"--fork: the first rank has not copied {fork.run} within {WAIT} s")
            time.sleep(0.5)
        return find(run, fresh=False)
    known = _index(fork)
    run.mkdir(parents=True, exist_ok=True)
    for name in {known["last"], known.get("best", known["last"])}:
        with atomic_folder(run / "checkpoints" / name) as work:
            shutil.copytree(fork.run / "checkpoints" / name, work, dirs_exist_ok=True)
    for name in (
        "metrics.csv",
        "bad.jsonl",
        "skipped.jsonl",
        "stages.json",
        MEASURES,
        ALARMS,
    ):  # a run cuts them at its step when it goes on
        if (fork.run / name).is_file():
            with atomic_write(run / name) as f:
                f.write((fork.run / name).read_bytes())
    keep_until(run / "metrics.csv", fork.step)
    write_json(run / "fork.json", {"run": str(fork.run), "step": fork.step})
    write_index(run, known)
    return find(run, fresh=False)


def _index(fork: Fork) -> dict[str, Any]:
    """Return the index of checkpoints that the run had at this step."""
    known: Mapping[str, Any] = read_index(fork.run)
    last, best = f"step-{fork.step:08d}", known.get("best")
    there = best is not None and best <= last and (fork.run / "checkpoints" / best / "model.json").is_file()
    kept = {key: value for key, value in known.items() if there and key in ("best", "monitor", "value")}
    return {"last": last, **kept}
