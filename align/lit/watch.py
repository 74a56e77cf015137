"""Watch over the ranks of a run: where one dies, stops or fails, the others say so in one line and leave."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import lightning as L
import torch
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver

from align.data.loader import StopAsked
from align.distributed import exchange
from align.lit.guard import Guard
from align.lit.heartbeat import Heartbeats, Verdict
from align.lit.module import AlignModule
from align.lit.peers import connect
from align.lit.signals import Interrupted

GRACE = 3.0  # seconds for this rank's own error, after another rank has told its own


@final
class Watch(L.Callback):
    """Callback that begins the heartbeats, once the ranks are there. It comes first among the callbacks.

    A rank in a collective call cannot raise an error while it waits for one that is gone. So the process ends, with
    exit code 1. One process alone has nobody to watch.

    A failure that all ranks meet in the same step (an `exit_code`, a signal) is each rank's own end.
    """

    def __init__(self, guard: Guard, module: AlignModule):
        self.guard, self.module = guard, module
        self._beats: Heartbeats | None = None
        self._launched: list[subprocess.Popen[bytes]] = []
        self._failed = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if trainer.world_size == 1 or self._beats is not None:
            return
        self._launched = getattr(trainer.strategy.launcher, "procs", [])
        peers, reason = connect(trainer.global_rank, trainer.world_size, exchange)
        if peers:
            self._beats = Heartbeats(trainer.global_rank, peers, self.guard.seconds, self._leave)
            end_observers()
        elif trainer.is_global_zero:
            print(f"no rank is watched, {reason}", file=sys.stderr, flush=True)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if self._beats is None:
            return
        if isinstance(exception, (Interrupted, StopAsked)) or hasattr(exception, "exit_code"):
            self.close()
            return
        if _comes_from_others(exception):  # the verdict is on its way, and ends this process
            time.sleep(GRACE)
        self._failed = True
        self._beats.tell(_describe(exception))

    def close(self) -> None:
        """End the heartbeats."""
        if self._beats is not None:
            self._beats.close()
            self._beats = None

    def _leave(self, verdict: Verdict) -> None:
        """Print the end of a rank, and end this process and all that it has started. Another thread calls it."""
        end = time.monotonic() + GRACE
        while verdict.told and not self._failed and time.monotonic() < end:
            time.sleep(0.05)
        if self._failed and verdict.told:
            return
        step, rank = self.module.step + 1, self.module.global_rank
        kind = "failed" if verdict.told else "is gone"
        print(
            f"align: rank {verdict.rank} {kind} in step {step}: {verdict.reason}; rank {rank} leaves. The same command "
            "goes on from the last checkpoint",
            file=sys.stderr,
            flush=True,
        )
        _end_children(self._launched)
        os._exit(1)


def end_observers() -> None:
    """End Lightning's watch over the ranks that it has launched.

    It kills this process within five seconds of the end of a rank with an exit code, those of signals among them. So
    rank 0 would end without a word about it, or in the middle of closing a logger.
    """
    for thread in threading.enumerate():
        if isinstance(thread, _ChildProcessObserver):
            thread._child_processes = []  # it looks at them once more, finds none, and ends


def _end_children(launched: list[subprocess.Popen[bytes]]) -> None:
    """End the data workers, and the ranks that Lightning has started here once they have had time to leave."""
    for worker in multiprocessing.active_children():
        worker.kill()
    end = time.monotonic() + 2
    while time.monotonic() < end and any(rank.poll() is None for rank in launched):
        time.sleep(0.05)
    for rank in launched:
        if rank.poll() is None:
            rank.send_signal(signal.SIGKILL)  # also a stopped one


@contextmanager
def explaining(module: AlignModule) -> Iterator[None]:
    """Say in one line where memory ends inside the block."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise ValueError(
            f"out of memory in step {module.step + 1}: lower data.batch, or give chunk ({_describe(error)})"
        ) from error


def _is_out_of_memory(error: BaseException) -> bool:
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def _comes_from_others(error: BaseException) -> bool:
    """Return True for an error of a collective call: another rank is gone."""
    known = (torch.distributed.DistError,) if torch.distributed.is_available() else ()
    words = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")
    return isinstance(error, known) or (isinstance(error, RuntimeError) and any(word in str(error) for word in words))


def _describe(error: BaseException) -> str:
    lines: list[Any] = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}" if lines[0] else type(error).__name__
