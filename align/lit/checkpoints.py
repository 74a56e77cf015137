"""When a run is saved: every so many steps or minutes, where validation is best, at the end and when asked to stop."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch

import align
from align.checkpoint import index, save_state, save_training
from align.lit.data import own_data
from align.lit.log import Log
from align.lit.module import AlignModule, own


class Checkpoints(L.Callback):
    """Writes ``RUN/checkpoints``: folders of safetensors and JSON, no pickle.

    Args:
        every_steps: save after every so many steps; none: only by time, at validation and at the end.
        every_minutes: save at the first step after so many minutes.
        keep: how many of the newest checkpoints stay; the best stays too.
        monitor: the value that says which checkpoint is best: a validation column of metrics.csv.
        mode: whether a smaller ("min") or larger ("max") value is better.
    """

    def __init__(
        self,
        every_steps: int | None = None,
        every_minutes: float = 10.0,
        keep: int = 2,
        monitor: str = "val/loss",
        mode: Literal["min", "max"] = "min",
    ):
        if keep < 1 or (every_steps is not None and every_steps < 1):
            raise ValueError(
                f"checkpoint.keep and checkpoint.every_steps must be at least 1; got {keep} and {every_steps}"
            )
        self.every_steps, self.every_minutes, self.keep, self.monitor, self.mode = (
            every_steps,
            every_minutes,
            keep,
            monitor,
            mode,
        )
        self.run = Path()
        self.metrics: Log | None = None
        self._saved = self._validated = -1  # the last step of which that is true
        self._account: dict[str, Any] | None = None
        self._clock = time.monotonic()

    def start(self, run: Path, metrics: Log, state: Mapping[str, Any]) -> None:
        """Save into this run folder, which has a checkpoint of this state; {"step": 0}: none."""
        self.run, self.metrics, self._clock = run, metrics, time.monotonic()
        self._saved = state["step"] or -1
        self._validated = self._saved if state.get("validated", True) else -1

    def check(self, columns: Sequence[str]) -> None:
        """Raise ValueError where the monitored value is none of these, the validation's columns."""
        if self.monitor not in columns:
            raise ValueError(f"checkpoint.monitor {self.monitor!r} is none of {', '.join(columns)}")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module = own(pl_module)
        due = self.every_steps is not None and module.step % self.every_steps == 0
        if due or time.monotonic() - self._clock > 60 * self.every_minutes:
            self.save(trainer, module)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._account = own_data(trainer).account()  # a validation that is cut short is made again, and counted then

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module = own(pl_module)
        if trainer.sanity_checking:
            return
        self._account, self._validated = None, module.step
        value, known = module.validation[self.monitor], index(self.run)
        best = (
            known.get("value") if known.get("monitor") == self.monitor else None
        )  # of another monitor it says nothing
        better = best is None or (value < best if self.mode == "min" else value > best)
        self._write(trainer, module, value=value, better=better)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.save(trainer, own(pl_module))

    def save(self, trainer: L.Trainer, module: AlignModule) -> None:
        """Save this step, if it is not saved. Every rank calls it; the first one writes."""
        if self._saved != module.step:
            self._write(trainer, module)

    def _write(
        self, trainer: L.Trainer, module: AlignModule, *, value: float | None = None, better: bool | None = None
    ) -> None:
        if self.metrics is not None:  # rows of saved steps are on disk, with their validation
            self.metrics.flush(trainer, module)
        module.end_evaluation()  # where a signal came in the middle of a validation
        if trainer.is_global_zero:
            data = own_data(trainer)
            state = {
                "step": module.step,
                "steps": module.steps,
                "planned": module.planned,
                "validated": self._validated == module.step,
                "order": data.order(),
                "data": data.standing.state(module.step),
                "bad": self._account or data.account(),
                "monitor": self.monitor,
                "value": value,
                "versions": {"align": align.__version__, "torch": torch.__version__, "lightning": L.__version__},
            }
            if self._saved == module.step:  # a validation changes no weight
                save_state(self.run, state, keep=self.keep, better=better)
            else:
                parts = module.model, module.objective, trainer.optimizers[0]
                save_training(self.run, *parts, state, keep=self.keep, better=better)
        self._saved, self._clock = module.step, time.monotonic()
