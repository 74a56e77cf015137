"""SIGINT, SIGTERM and SLURM's SIGUSR1: all ranks finish the step, save and stop in the same step.

A second signal stops at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import lightning as L

from align.data.loader import StopAsked
from align.distributed import exchange
from align.lit.requeue import list_signals


class Stop(L.Callback):
    """Handler that turns a signal to any rank into a checkpoint at the step's end.

    save: writes it. `received` holds the number of the signal, or 0.
    """

    def __init__(self, save: Callable[[L.Trainer], None]):
        self.save = save
        self.received = self._own = 0
        self._before: dict[int, Any] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.install()  # the ranks are joined: while they read a checkpoint, a signal already waits for the first step

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.install()  # Lightning has put a handler before ours

    def install(self) -> None:
        """Handle the signals from now on. Only the main thread can."""
        for number in (signal.SIGINT, signal.SIGTERM, *list_signals(os.environ)):
            try:
                self._before.setdefault(number, signal.signal(number, self._receive))
            except ValueError:  # not the main thread: the program around this run handles signals
                return

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._own:
            self.restore()
            raise KeyboardInterrupt
        self._own = number
        print(
            f"{signal.Signals(number).name}: saving at the end of this step, then stopping", file=sys.stderr, flush=True
        )

    @property
    def asked(self) -> bool:
        """True where this rank has a signal that the ranks have not agreed on yet."""
        return self._own > 0 and not self.received

    def stop_now(self, trainer: L.Trainer) -> None:
        """Save and raise Interrupted where any rank got a signal, between two steps. All ranks call it."""
        if self._agree():
            self.save(trainer)  # in memory is the end of a step
            raise Interrupted(self.received)

    def _agree(self) -> int:
        """Return the first signal that any rank got, or 0.

        Every rank asks after the same steps. One that stopped alone would leave the others waiting for it.
        """
        said = exchange(str(self._own).encode() if self._own else b"")
        self.received = next((int(number) for number in said if number), 0)
        return self.received

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._agree():
            trainer.should_stop = True
            trainer.limit_val_batches = 0  # Lightning validates once more before it stops; the checkpoint does not wait
            self.save(trainer)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        self.stop_now(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, StopAsked) and self._agree():  # between two steps, or in a validation
            self.save(trainer)


class Interrupted(Exception):
    """End of training by a signal, with its checkpoint written."""
