"""Frozen parameters of a run, which a checkpoint may have given other values than the config's model."""

from __future__ import annotations

import lightning as L

from align.tuning import Applied


class Frozen(L.Callback):
    """Callback that takes the checksums of frozen parameters once a run's checkpoint is in place."""

    def __init__(self, applied: Applied):
        self.applied = applied

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.applied.remember()
