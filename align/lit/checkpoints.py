"""Checkpoints of a run: every so many steps or minutes, where validation is best, at the end and when asked to stop."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, final

import lightning as L
import torch

import align
from align.checkpoint import Unsaved, read_index, save_state, save_training
from align.checkpoint.room import making_room
from align.checkpoint.together import together
from align.lit.module import AlignModule
from align.lit.opened import Opened
from align.lit.precision import read_scale
from align.model.inside import is_sharded


@final
@dataclass(frozen=True)
class Checkpoints:
    """Times at which ``RUN/checkpoints`` gets a folder of safetensors and JSON, without a pickle.

    Args:
        every_steps: save after every so many steps. None: only by time, at validation and at the end.
        every_minutes: save at the first step after so many minutes.
        keep: number of the newest checkpoints that stay. The best stays too.
        monitor: the value that tells the best checkpoint, a validation column of metrics.csv, or a score of an
            evaluator of ``validate``.
        mode: "min" where a smaller value is better, "max" where a larger one is.
        on_error: where a checkpoint cannot be written, as on a full disk: "stop" ends the run in one line, "warn"
            prints the line and tries again at the next time. The last checkpoint of a run must be written.
    """

    every_steps: int | None = None
    every_minutes: float = 10.0
    keep: int = 2
    monitor: str = "val/loss"
    mode: Literal["min", "max"] = "min"
    on_error: Literal["stop", "warn"] = "stop"

    def __post_init__(self) -> None:
        if self.keep < 1 or (self.every_steps is not None and self.every_steps < 1):
            raise ValueError(
                f"checkpoint.keep and checkpoint.every_steps must be at least 1; got {self.keep} and {self.every_steps}"
            )

    def check(self, columns: Sequence[str]) -> None:
        """Raise ValueError, with the nearest right name, where the monitored value is none of the columns."""
        if self.monitor not in columns:
            close = get_close_matches(self.monitor, columns, n=1, cutoff=0.6)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"checkpoint.monitor {self.monitor!r} is none of {', '.join(columns)}{hint}")


@final
class Saver(L.Callback):
    """Writer of a run's checkpoints.

    Args:
        when: the times.
        run: the run folder.
        flush: writes the rows of metrics.csv that still wait. Rows of a saved step are on disk before the step is.
        state: of the checkpoint that the run goes on from, or {"step": 0} where it begins.
        more: entries of the state of every checkpoint, such as the name of the stage.
        check: raises an error where this process may no longer write into the run folder.
        judged: gets (step, value) of every measurement of the monitored value, before the step is saved.
    """

    def __init__(
        self,
        when: Checkpoints,
        run: Path,
        module: AlignModule,
        data: Opened,
        flush: Callable[[L.Trainer], None],
        state: Mapping[str, Any],
        more: Mapping[str, Any] | None = None,
        check: Callable[[], None] = lambda: None,
        judged: Callable[[int, float], None] = lambda step, value: None,
    ):
        self.more, self.check, self.judged = {} if more is None else more, check, judged
        self.when, self.run, self.module, self.data, self.flush = when, run, module, data, flush
        self._saved = state["step"] or -1  # the last step that is on disk
        self._validated = self._saved if state.get("validated", True) else -1
        self._evaluated = self._saved if state.get("evaluated", True) else -1
        same = state.get("monitor") == when.monitor
        self._value = (self._saved, state.get("value") if same else None)  # the last step with a value, the value
        self._account: dict[str, Any] | None = None  # of bad samples, before a validation
        self._clock = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        due = self.when.every_steps is not None and self.module.step % self.when.every_steps == 0
        if due or time.monotonic() - self._clock > 60 * self.when.every_minutes:
            self.save(trainer, must=False)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._account = self.data.account()  # a validation that is cut short is made again, and counted then

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self._account, self._validated = None, self.module.step
        self._judge(trainer, self.module.validation)

    def judge_scores(self, trainer: L.Trainer, scores: Mapping[str, float]) -> None:
        """Save this step, which evaluators have measured, and judge it by their scores."""
        self._evaluated = self.module.step
        self._judge(trainer, scores)

    def _judge(self, trainer: L.Trainer, values: Mapping[str, float]) -> None:
        """Save this step, as the best one where the monitored value is among these values and better than before.

        The weights that a run starts with are no candidate.
        """
        if not self.module.step:
            return
        if self.when.monitor not in values:
            self._write(trainer, must=False)
            return
        value, known = values[self.when.monitor], read_index(self.run)
        best = known.get("value") if known.get("monitor") == self.when.monitor else None  # another's value is no match
        better = best is None or (value < best if self.when.mode == "min" else value > best)
        better = better and not math.isnan(value)
        self._value = (self.module.step, value)
        self.judged(self.module.step, value)
        self._write(trainer, better=better, must=False)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.save(trainer)

    def save(self, trainer: L.Trainer, *, must: bool = True) -> None:
        """Save this step, if it is not saved. Every rank calls it and the first one writes.

        must: raise Unsaved where that fails, whatever ``on_error`` says.
        """
        if self._saved != self.module.step:
            self._write(trainer, must=must)

    def _write(self, trainer: L.Trainer, *, better: bool | None = None, must: bool = True) -> None:
        try:
            self._put(trainer, better)
        except Unsaved as error:
            if must or self.when.on_error == "stop":
                raise
            print(f"step {self.module.step} is not saved: {error}", file=sys.stderr, flush=True)
            self._clock = time.monotonic()

    def _put(self, trainer: L.Trainer, better: bool | None) -> None:
        sharded = is_sharded(self.module.model)
        if sharded:  # all ranks write, so all learn of the first one's failure before
            with making_room(self.run / "checkpoints"), together():
                self.check()
                self.flush(trainer)
        else:
            self.check()
            self.flush(trainer)
        self.module.end_evaluation()  # where a signal came in the middle of a validation
        if trainer.is_global_zero or sharded:
            module, data, keep = self.module, self.data, self.when.keep
            state = {
                "step": module.step,
                "steps": module.steps,
                "planned": module.planned,
                "validated": self._validated == module.step,
                "evaluated": self._evaluated == module.step,
                **self.more,
                **read_scale(trainer),
                "order": data.order,
                "data": data.standing.state(module.step),
                "bad": self._account or data.account(),
                "monitor": self.when.monitor,
                "mode": self.when.mode,
                "value": self._value[1] if self._value[0] == module.step else None,
                "versions": {"align": align.__version__, "torch": torch.__version__, "lightning": L.__version__},
            }
            if self._saved == module.step:  # a validation changes no weight
                if trainer.is_global_zero:
                    save_state(self.run, state, keep=keep, better=better)
            else:
                parts = module.model, module.objective, trainer.optimizers[0]
                save_training(self.run, *parts, state, keep=keep, better=better)
        self._saved, self._clock = self.module.step, time.monotonic()
