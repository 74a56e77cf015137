"""Checksums of a run's frozen parameters, after a checkpoint has set their values."""

from __future__ import annotations

import lightning as L

from align.tuning import Applied


class Frozen(L.Callback):
    """Callback that takes the checksums of frozen parameters, after `Resume` has put a checkpoint in place."""

    def __init__(self, applied: Applied):
        self.applied = applied

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.applied.remember()
