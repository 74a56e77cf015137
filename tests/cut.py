"""A run that ends in the middle of its steps, as a kill would end it."""

from __future__ import annotations

from typing import Any

import lightning as L

from align.lit import AlignModule


class Cut(RuntimeError):
    """An error that nothing in a run expects."""


class Kill(L.Callback):
    """Raises `Cut` at the end of a step, without a checkpoint of it."""

    def __init__(self, step: int):
        self.step = step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any) -> None:
        assert isinstance(pl_module, AlignModule)
        if pl_module.step == self.step:
            raise Cut
