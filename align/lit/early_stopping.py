"""Early stopping: a run ends where its monitored value no longer gets better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

import lightning as L

from align.checkpoint import read_index
from align.distributed import exchange


@final
@dataclass(frozen=True)
class EarlyStopping:
    """End of a run before its last step.

    The value is the one that ``checkpoint.monitor`` names, in its ``mode``. Each validation, or evaluation, that
    measures it counts. A value that is NaN is no improvement. In a run with stages the count goes on from stage to
    stage, and the whole run ends.

    Args:
        patience: measurements without a better value after which the run ends.
        min_delta: a change of at most this much is no improvement.
    """

    patience: int
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ValueError(f"early_stopping.patience is a number of measurements, at least 1; got {self.patience}")
        if not 0 <= self.min_delta < math.inf:
            raise ValueError(f"early_stopping.min_delta is a change, at least 0; got {self.min_delta}")

    def check(self, monitor: str, measured: bool) -> None:
        """Raise ValueError where nothing in the run measures the monitored value."""
        if not measured:
            raise ValueError(
                f"early_stopping waits for {monitor}, which nothing in this run measures: name data.val (and validate, "
                "for an evaluator's score), leave trainer.limit_val_batches out, or leave early_stopping out"
            )


@final
class Patience:
    """Count of the measurements since the monitored value was last better.

    The count is part of every checkpoint's state, so a resumed run stops where an uninterrupted one does. All ranks
    count the first rank's values.

    Args:
        settings: None: nothing is counted and the run never ends early.
        monitor, mode: of the checkpoints.
        state: of the checkpoint that the run goes on from. The count of another monitored value is not taken over.
    """

    def __init__(
        self, settings: EarlyStopping | None, monitor: str, mode: Literal["min", "max"], state: Mapping[str, Any]
    ):
        self.settings = settings
        begin = {"monitor": monitor, "mode": mode, "best": None, "best_step": 0, "step": 0, "waited": 0}
        before = state.get("early_stopping") or {}
        same = all(before.get(name) == begin[name] for name in ("monitor", "mode"))
        self.counts: dict[str, Any] = {**begin, **before} if same else begin

    @property
    def entry(self) -> dict[str, Any]:
        """Entry of a checkpoint's state. It holds the count itself, which is current whenever it is written."""
        return {} if self.settings is None else {"early_stopping": self.counts}

    @property
    def ended(self) -> bool:
        """True where the run is to end, or has ended."""
        return self.settings is not None and self.counts["waited"] >= self.settings.patience

    def count(self, step: int, value: float) -> None:
        """Count a measurement. One that is made again at the same step, after a stop, does not count twice."""
        if self.settings is None:
            return
        value = float(exchange(repr(float(value)).encode())[0])
        if step <= self.counts["step"]:
            return
        best, least = self.counts["best"], self.settings.min_delta
        sign = 1 if self.counts["mode"] == "max" else -1
        better = not math.isnan(value) and (best is None or sign * (value - best) > least)
        self.counts["step"] = step
        if better:
            self.counts |= {"best": value, "best_step": step, "waited": 0}
        else:
            self.counts["waited"] += 1

    def describe(self, run: Path) -> str:
        """Return the reason of the end, with the best checkpoint's step."""
        known, waited, monitor = read_index(run), self.counts["waited"], self.counts["monitor"]
        least = f" by more than {self.settings.min_delta:g}" if self.settings and self.settings.min_delta else ""
        best = known.get("best")
        more = "" if best is None else f"; the best is step {int(best[5:])}, with {known['value']:.6g}"
        times = f"{waited} measurement{'s' * (waited != 1)}"
        return f"{monitor} was not better{least} in {times} after step {self.counts['best_step']}{more}"

    def describe_end(self, run: Path, step: int) -> str:
        """Return the line for a run that has ended early and is started again."""
        return (
            f"{run} is trained: it stopped early at step {step}: {self.describe(run)}; raise early_stopping.patience "
            f"above {self.counts['waited']}, or leave early_stopping out, to go on"
        )


@final
class EndEarly(L.Callback):
    """Callback that ends the fit where the patience has ended. Its place is after those that measure and save."""

    def __init__(self, patience: Patience):
        self.patience = patience

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._end(trainer)  # a measurement that a stop had left out

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._end(trainer)  # an evaluation

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._end(trainer)

    def _end(self, trainer: L.Trainer) -> None:
        if self.patience.ended:
            trainer.should_stop = True
