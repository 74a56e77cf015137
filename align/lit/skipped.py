"""``RUN/skipped.jsonl``: the steps that a run left out, and the end of a run that leaves out too many in a row."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import lightning as L

from align.files import json_text
from align.lit.finite import describe
from align.lit.guard import Guard
from align.lit.module import AlignModule
from align.lit.quarantine import keep_until


class TooManySkipped(ValueError):
    """So many steps in a row without an update that the run stops. The message holds a table, the exit code is 3."""

    exit_code = 3


@final
class Skipped(L.Callback):
    """Writer of the list, and counter of the skipped steps in a row.

    A line has step, rank, loss, grad_norm, the values and the parts' gradients that are not finite, and modality -> the
    keys of the samples whose embeddings are not finite. Where all embeddings are, ``keys`` has the rank's whole batch.
    Under float16, steps whose scaled gradients overflow are not counted: the scale is halved until they fit.

    Args:
        guard: see `Guard`.
        flush: writes the rows of metrics.csv that still wait.
        state: of the checkpoint that the run goes on from, with the number of skipped steps in a row.
        kept: gets that number, for the next checkpoint. A run without a skipped step has no such entry.
    """

    def __init__(
        self,
        guard: Guard,
        run: Path,
        module: AlignModule,
        flush: Callable[[L.Trainer], None],
        state: Mapping[str, Any],
        kept: dict[str, Any],
    ):
        self.guard, self.path, self.module, self.flush, self.kept = guard, run / "skipped.jsonl", module, flush, kept
        self.kept.update({"skips": state["skips"]} if state.get("skips") else {})
        self._rows: list[str] = []  # of the table

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            keep_until(self.path, self.module.step)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step, found = self.module.step, self.module.finite.found
        if not found:
            self.kept.pop("skips", None)
            self._rows = []
            return
        if not _is_overflow(trainer, found):
            self.kept["skips"] = self.kept.get("skips", 0) + 1
        text = ", ".join(
            f"rank {each['rank']}: {describe(each)}" if len(found) > 1 else describe(each) for each in found
        )
        self._rows.append(f"  {step:>8}  {text}")
        if trainer.is_global_zero:
            with self.path.open("a", encoding="utf-8") as f:
                f.writelines(json_text({"step": step, **each}) + "\n" for each in found)
            print(f"step {step} is skipped: {text}; all keys are in {self.path}", file=sys.stderr, flush=True)
        if self.kept.get("skips", 0) >= self.guard.skips:
            self.flush(trainer)
            raise TooManySkipped(
                f"{self.kept['skips']} steps in a row have a loss or a gradient that is not finite; weights and "
                f"optimiser are those of step {step - self.kept['skips']}. Lower optim.lr, look at the samples in "
                f"{self.path}, or raise guard.skips:\n" + "\n".join(self._rows[-20:])
            )


def _is_overflow(trainer: L.Trainer, found: Sequence[Mapping[str, Any]]) -> bool:
    """Return True where gradients are not finite for float16's scale, which is above 1 and was halved for it."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    healthy = all(math.isfinite(float(each["loss"])) and not each["modalities"] for each in found)
    return healthy and scaler is not None and scaler.get_scale() > 1
