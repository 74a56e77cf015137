"""The decoders: processes that read files of strangers, each replaced when it crashes or takes too long."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, final

from align.preprocess.base import Preprocess
from align.serve.channel import READY, Failed, receive
from align.serve.decoding import Task, run
from align.serve.limits import Limits
from align.serve.refusal import Refusal

START_SECONDS = 120.0  # of a process, which imports torch
LIBRARIES = (
    "torch",
    "align.preprocess",
    "align.serve.decoding",
    "PIL.Image",
    "soundfile",
    "av",
    "trimesh.exchange.load",
)
"""Modules that are imported before processes are forked, so that the first file of a kind is not the slowest."""


def prepare() -> None:
    """Start the process that decoders are forked from, which imports its libraries meanwhile.

    Its libraries never come from the current folder, where a checkout named ``align`` would hide the package.
    """
    from multiprocessing.forkserver import ensure_running

    multiprocessing.get_context("forkserver").set_forkserver_preload(list(LIBRARIES))
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"  # that process starts as `python -c`, which looks in the folder first
    try:
        ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


@final
class Decoders:
    """Processes that decode, one for each thread of a pool.

    ``restarts`` counts the processes that were replaced.
    """

    def __init__(self, preprocess: Mapping[str, Preprocess], limits: Limits):
        prepare()
        self._pickled = pickle.dumps(dict(preprocess))
        self._limits = limits
        self._threads = ThreadPoolExecutor(limits.decoders, "decoder")
        self._local = threading.local()
        self._all: set[_Process] = set()
        self._waiting = 0
        self.restarts = 0

    def start(self) -> None:
        """Start the processes before the first file arrives."""
        ready = threading.Barrier(self._limits.decoders)
        for future in [self._threads.submit(self._begin, ready) for _ in range(self._limits.decoders)]:
            future.result()

    async def decode(self, task: Task) -> Any:
        """Return the answer of a process, see ``decoding.answer``.

        Raises Refusal: 422 for a file that cannot be decoded, 429 where too many wait.
        """
        if self._waiting >= self._limits.waiting + self._limits.decoders:
            raise Refusal(429, "too many files wait to be decoded; ask again in a second", retry=1)
        self._waiting += 1
        future = self._threads.submit(self._ask, task)
        future.add_done_callback(lambda _: self._leave())
        found = await asyncio.wrap_future(future)
        if isinstance(found, Failed):
            detail = f": {found.detail}" if found.detail else ""
            raise Refusal(422, f"the {task.modality} cannot be read ({found.reason}{detail})", code="undecodable")
        return found

    @property
    def waiting(self) -> int:
        """Files that are being decoded or wait for it."""
        return self._waiting

    def close(self) -> None:
        """End the processes. Files that are being decoded fail."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in list(self._all):
            process.end()

    def _leave(self) -> None:
        self._waiting -= 1

    def _begin(self, ready: threading.Barrier) -> None:
        ready.wait(START_SECONDS)  # so that each thread of the pool takes one
        self._local.process = process = self._new()
        if not process.alive:
            raise ValueError("the processes that decode files do not start; the lines above say why")

    def _new(self) -> _Process:
        process = _Process(self._pickled, self._limits)
        self._all.add(process)
        return process

    def _ask(self, task: Task) -> Any:
        process: _Process | None = getattr(self._local, "process", None)
        if process is not None and process.has_ended:  # between two files, so that this one is not to blame
            self._drop(process)
            process = None
        if process is None:
            process = self._local.process = self._new()
        found = process.ask(task)
        if not process.alive:
            self._drop(process)
        return found

    def _drop(self, process: _Process) -> None:
        process.end()
        self._all.discard(process)
        self._local.process = None
        self.restarts += 1


class _Process:
    """A process that decodes, and this end of its pipe."""

    def __init__(self, pickled: bytes, limits: Limits):
        context = multiprocessing.get_context("forkserver")  # forking this process, with its threads, is not safe
        self._pipe, other = context.Pipe()
        self._most = limits.decode_memory  # bytes of a part of an answer
        self._seconds = limits.decode_seconds
        asked = (other, pickled, limits.decode_memory, limits.decode_seconds)
        self._process = context.Process(target=run, args=asked, daemon=True, name="align-decoder")
        self._process.start()
        other.close()
        self.alive = self._pipe.poll(START_SECONDS) and self._take() == READY

    def ask(self, task: Task) -> Any:
        """Return the answer, or ``Failed`` where the process crashed or took too long. It is not alive then."""
        found: Any = None
        try:
            if self.alive:
                self._pipe.send(task)
                slow = not self._pipe.poll(self._seconds)
                if not slow and (found := self._take()) is not self:
                    return found
                if slow or self._out_of_time():
                    found = Failed("too-slow", f"decoding took more than {self._seconds:g} s")
                else:
                    found = None
        except OSError:
            pass
        self.end()
        return found or Failed("crashed", "its decoder stopped")

    def _out_of_time(self) -> bool:
        """Return True where the system has ended the process for its processor time, see ``confine``."""
        self._process.join(5)
        return self._process.exitcode == -signal.SIGXCPU

    @property
    def has_ended(self) -> bool:
        """True where the process is gone, as after the system has killed it for want of memory."""
        return not self._process.is_alive()

    def end(self) -> None:
        """Kill the process."""
        self.alive = False
        self._process.kill()
        self._process.join(5)
        self._pipe.close()

    def _take(self) -> Any:
        """Return the next answer, or this object where the process is gone."""
        try:
            return receive(self._pipe, self._most)
        except (EOFError, OSError, ValueError):
            return self
