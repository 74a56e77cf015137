"""Probes run in a process of their own, so that a library that crashes or hangs is one line of the report."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

PATIENCE = 120  # seconds for one probe: a first import from a slow disk takes long


class Probe(NamedTuple):
    """A question: the function "module:function" and its arguments. patience: seconds until it counts as hanging."""

    function: str
    arguments: tuple[Any, ...] = ()
    patience: float = PATIENCE


class Answer(NamedTuple):
    """The value that a probe returned, or the error in one line."""

    value: Any = None
    error: str = ""


def ask(probes: Sequence[Probe]) -> Iterator[Answer]:
    """Yield the answer to each probe, in order. A process that a probe ends or blocks is replaced for the next."""
    context = multiprocessing.get_context("spawn")  # a fork would share the libraries that are loaded here
    worker: Any = None
    ours: Any = None
    try:
        for probe in probes:
            if worker is None:
                ours, theirs = context.Pipe()
                worker = context.Process(target=_work, args=(theirs,), daemon=True)
                worker.start()
                theirs.close()
            try:
                ours.send(probe)
                answer = ours.recv() if ours.poll(probe.patience) else None
            except (EOFError, OSError):
                worker.join()
                answer, code = None, worker.exitcode or 0
                reason = signal.Signals(-code).name if code < 0 else f"exit code {code}"
                yield Answer(error=f"it ends the process with {reason}")
            else:
                yield answer or Answer(error=f"no answer within {probe.patience:.0f} s")
            if answer is None:
                worker.kill()
                worker.join()
                worker = None
    finally:
        if worker is not None:
            worker.kill()
            worker.join()


def _work(pipe: Connection) -> None:
    """Answer probes until the pipe closes. Libraries that print or warn at their import do so unseen."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    while True:
        try:
            probe = pipe.recv()
        except EOFError:
            return
        try:
            module, function = probe.function.split(":")
            answer = Answer(getattr(import_module(module), function)(*probe.arguments))
        except KeyboardInterrupt:
            return
        except BaseException as error:  # SystemExit too: a library may raise anything
            answer = Answer(error=in_one_line(error))
        pipe.send(answer)


def in_one_line(error: BaseException, most: int = 200) -> str:
    """Return the type and the first line of an error."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return text if len(text) <= most else text[: most - 1] + "…"


def import_attribute(module: str, attribute: str) -> str:
    """Import a module, look an attribute up, and return the module's version, "" where it states none."""
    found: Any = import_module(module)
    for name in attribute.split("."):
        found = getattr(found, name)
    return str(getattr(sys.modules[module.partition(".")[0]], "__version__", ""))


def try_format(index: int) -> None:
    """Decode a tiny file of the format at this place in ``list_trials``."""
    from align.media.samples import list_trials

    list_trials()[index].run()
