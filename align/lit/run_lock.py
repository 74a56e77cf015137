"""Lock of a run folder: one process trains in it at a time, whatever machine it is on.

RUN/train.claim, made anew by each start (see ``align.files.claims``), and RUN/train.json, which says who has it.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import ParamSpec, TypeVar

from align.checkpoint.room import making_room
from align.files import read_json, write_json
from align.files.claims import Claims
from align.files.swapping import remove_leftovers
from align.lit.first import is_first

P = ParamSpec("P")
T = TypeVar("T")
NAME, NOTE = "train", "train.json"
WRITTEN = ("bad.json", "bad.jsonl", "bad-shards.json", "config.yaml", "fork.json", "metrics.csv", "model", "train.json")
"""Names in a run folder that a run writes whole or not at all."""
_held: dict[Path, Claims] = {}  # run folder -> the claims with its lock


def lock_fit(fit: Callable[P, T]) -> Callable[P, T]:
    """Return `fit` under the lock of its argument ``run``."""

    @wraps(fit)
    def fit_alone(*args: P.args, **kwargs: P.kwargs) -> T:
        with lock_run(Path(signature(fit).bind(*args, **kwargs).arguments["run"])):
            return fit(*args, **kwargs)

    return fit_alone


@contextmanager
def lock_run(run: Path) -> Iterator[None]:
    """Keep other runs out of a run folder for the block, and remove what a killed one left in it.

    The first rank holds the lock for all ranks. Raises ValueError, with host, process and age, where another process
    trains in the folder. A lock of another host that shows no sign of life is waited for, for up to a minute, and then
    taken over.
    """
    if not is_first():
        yield
        return
    claims, new, beats = Claims(run), not run.exists(), None
    try:
        while True:
            with ExitStack() as stack:
                with making_room(run):
                    ours = stack.enter_context(claims.hold(NAME))
                if ours:
                    with making_room(run):
                        _prepare(run)
                    stack.callback(_forget, run)
                    _held[run.resolve()] = claims
                    yield
                    return
            beats = _wait(claims, run, beats)
    finally:
        if new:
            with suppress(OSError):
                run.rmdir()  # nothing was written


def check_lock(run: Path) -> None:
    """Raise RuntimeError where another process has taken a run folder over, as it may after this one was suspended."""
    claims = _held.get(run.resolve())
    if claims is not None and not claims.has(NAME):
        raise RuntimeError(f"{run} was taken over by another process while this one stood still: it writes no more")


def _wait(claims: Claims, run: Path, beats: int | None) -> int | None:
    """Wait a second for a sign of life of a lock's owner, and return the number of those so far.

    beats: the number at the first look. Raises ValueError where the owner lives.
    """
    state = claims.read(NAME)
    if state is None:  # just released
        return beats
    line = _describe(run, state.beats * claims.beat)
    if state.here or beats not in (None, state.beats):
        raise ValueError(f"{line}; stop that run, or name another --run")
    if beats is None:
        print(f"{line}, as far as one can see; waiting up to {claims.lease:.0f} s for a sign of life", file=sys.stderr)
    time.sleep(min(1.0, claims.beat))
    return state.beats


def _forget(run: Path) -> None:
    claims = _held.pop(run.resolve(), None)
    if claims is not None and claims.has(NAME):
        (run / NOTE).unlink(missing_ok=True)


def _prepare(run: Path) -> None:
    """Say who has the lock, and remove what killed writers left."""
    write_json(run / NOTE, {"host": socket.gethostname(), "pid": os.getpid()})
    remove_leftovers(run, WRITTEN)
    remove_leftovers(run / "checkpoints")
    for folder in (run / "checkpoints").glob("step-*"):
        remove_leftovers(folder)
        remove_leftovers(folder / "training")


def _describe(run: Path, seconds: float) -> str:
    """Return the line about a run folder that another process has."""
    try:
        about = read_json(run / NOTE)
        by = f"by pid {about['pid']} on host {about['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        by = "by another process"
    return f"{run} is being trained {by} since {describe_age(seconds)}"


def describe_age(seconds: float) -> str:
    """Return a time for a reader: ``3 min``."""
    for unit, size in (("days", 172_800), ("h", 7_200), ("min", 120)):
        if seconds >= size:
            return f"{seconds / {'days': 86_400, 'h': 3_600, 'min': 60}[unit]:.0f} {unit}"
    return f"{seconds:.0f} s"
