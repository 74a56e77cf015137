"""Progress of a training run on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import lightning as L

from align.lit.loaders import Loaders
from align.lit.module import AlignModule
from align.lit.pace import Mark, Pace, choose_pause, write_time

BAR = 12  # columns of the bar


class Progress(L.Callback):
    """A bar on stderr where that is a terminal, in one line of its width, and plain lines elsewhere.

    A plain line comes at every tenth of the run, and in between as often as `choose_pause` says.
    """

    def __init__(self, module: AlignModule, loaders: Loaders):
        self.module, self.loaders = module, loaders
        self.bar = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module = self.module
        now = time.monotonic()
        self._said, self._start = now, now
        self._pace = Pace(Mark(now, module.step, self.loaders.waited))
        if not trainer.is_global_zero or not sys.stderr.isatty():
            return
        from rich.console import Console

        self.bar, self._task = start_bar(Console(stderr=True), module.step, module.steps)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._pace = Pace(Mark(time.monotonic(), self.module.step, self.loaders.waited))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module = self.module
        if not trainer.is_global_zero:
            return
        now, last = time.monotonic(), module.step >= module.steps
        self._pace.mark(Mark(now, module.step, self.loaders.waited))
        tenth = module.steps // 10 and module.step % max(1, module.steps // 10) == 0
        if self.bar is not None:
            self.bar.update(self._task, completed=module.step)
            if now - self._said > 0.5 or last:
                self.bar.update(
                    self._task, text=fit_parts(self._parts(), count_room(self.bar.console.width, module.steps))
                )
                self._said = now
        elif last or tenth or now - self._said > choose_pause(now - self._start):
            parts = "  ".join(part.text for part in self._parts())
            print(f"step {module.step}/{module.steps}  {parts}", file=sys.stderr, flush=True)
            self._said = now

    def _parts(self) -> list[Part]:
        """Return the parts of a line. Those of a low rank stay where a terminal is too narrow for all."""
        module, data, pace = self.module, self.loaders.data, self._pace
        weights = module.objective.weights
        terms = ", ".join(f"{name} {float(module.values[name]):.3f}" for name in weights if name in module.values)
        left = pace.count_left(module.steps)
        parts = [
            Part(0, f"loss {float(module.values['loss']):.4f}"),
            Part(4, f"({terms})" if len(weights) > 1 else ""),
            Part(2, f"{pace.speed * data.batch:,.0f} samples/s"),
            Part(3, f"{pace.waiting:.0%} waiting for data"),
            Part(1, f"{write_time(left)} left" if left and module.step < module.steps else ""),
            Part(5, _bad(data.ledger.bad, data.ledger.seen)),
        ]
        return [part for part in parts if part.text]

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module = self.module
        if trainer.is_global_zero and not trainer.sanity_checking and module.validation:
            recall = [v for k, v in module.validation.items() if k.endswith("recall@1") and not math.isnan(v)]
            mean = f"  mean recall@1 {sum(recall) / len(recall):.3f}" if recall else ""
            self.print_line(trainer, f"step {module.step}: validation loss {module.validation['val/loss']:.4f}{mean}")

    def print_line(self, trainer: L.Trainer, text: str) -> None:
        """Print a line above the bar, on the first rank."""
        if not trainer.is_global_zero:
            return
        if self.bar is not None:
            self.bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self.close()


def start_bar(console: Any, step: int, steps: int) -> tuple[Any, Any]:
    """Return a bar that runs on a terminal, and its task. The bar is short, so that the text has room."""
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    text = TextColumn("{task.fields[text]}", table_column=Column(no_wrap=True, overflow="crop"), markup=False)
    counts = TextColumn("{task.completed}/{task.total}", table_column=Column(no_wrap=True))
    bar = Progress(BarColumn(bar_width=BAR), counts, text, console=console)
    bar.start()
    return bar, bar.add_task("", total=steps, completed=step, text="")


def count_room(width: int, steps: int) -> int:
    """Return the columns of a terminal that are left beside the bar and the counts of steps."""
    return width - BAR - 2 * len(str(steps)) - 4  # a slash, two spaces, and the last column stays free


class Part(NamedTuple):
    """A part of a line of progress. rank: parts of a high one are left out first."""

    rank: int
    text: str


def fit_parts(parts: Sequence[Part], width: int) -> str:
    """Return the parts in their order, without those that do not fit into a width.

    >>> fit_parts([Part(0, "loss 1.2"), Part(2, "(a 0.5, b 0.7)"), Part(1, "9 s left")], 20)
    'loss 1.2  9 s left'
    """
    kept: list[Part] = []
    for part in sorted(parts):
        if len("  ".join(one.text for one in [*kept, part])) <= width:
            kept.append(part)
    return "  ".join(part.text for part in parts if part in kept)


def _bad(samples: int, seen: int) -> str:
    """Return ``3 bad (0.2%)``: samples with a bad member, of those seen so far. It is empty for none."""
    if not samples:
        return ""
    share = samples / seen
    return f"{samples} bad ({share:.1%})" if share >= 0.001 else f"{samples} bad (<0.1%)"
