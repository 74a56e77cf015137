"""Progress of a training run on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

import lightning as L

from align.lit.loaders import Loaders
from align.lit.module import AlignModule


class Progress(L.Callback):
    """A bar on stderr where that is a terminal. Elsewhere a line every tenth of the run, or every 15 s."""

    def __init__(self, module: AlignModule, loaders: Loaders):
        self.module, self.loaders = module, loaders
        self.bar = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module = self.module
        self._said, self._start, self._first = time.monotonic(), time.monotonic(), module.step
        if not trainer.is_global_zero or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        parts = [
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(),
        ]
        self.bar = Progress(*parts, TextColumn("{task.fields[text]}"), console=Console(stderr=True))
        self.bar.start()
        self._task = self.bar.add_task("", total=module.steps, completed=module.step, text="")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module = self.module
        if not trainer.is_global_zero:
            return
        now, last = time.monotonic(), module.step >= module.steps
        tenth = module.steps // 10 and module.step % max(1, module.steps // 10) == 0
        if self.bar is not None:
            self.bar.update(self._task, completed=module.step)
            if now - self._said > 0.5 or last:
                self.bar.update(self._task, text=self._text())
                self._said = now
        elif last or tenth or now - self._said > 15:
            print(f"step {module.step}/{module.steps}  {self._text()}", file=sys.stderr, flush=True)
            self._said = now

    def _text(self) -> str:
        module, data = self.module, self.loaders.data
        seconds = time.monotonic() - self._start
        speed = (module.step - self._first) * data.batch / max(1e-9, seconds)
        wait = self.loaders.waited / max(1e-9, seconds)
        text = f"loss {float(module.values['loss']):.4f}  {speed:,.0f} samples/s  {min(1.0, wait):.0%} waiting for data"
        return text + _bad(data.ledger.bad, data.ledger.seen)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module = self.module
        if trainer.is_global_zero and not trainer.sanity_checking and module.validation:
            recall = [v for k, v in module.validation.items() if k.endswith("recall@1")]
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


def _bad(samples: int, seen: int) -> str:
    """Return ``  3 bad (0.2%)``: samples with a bad member, of those seen so far. It is empty for none."""
    if not samples:
        return ""
    share = samples / seen
    return f"  {samples} bad ({share:.1%})" if share >= 0.001 else f"  {samples} bad (<0.1%)"
