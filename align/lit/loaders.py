"""Data loaders of a run for Lightning: whole batches of this rank, one endless stream over the epochs."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import lightning as L

from align.data import Concat, Loader, Mixture
from align.data.ledger import everyones
from align.data.mixing.sources import Part
from align.lit.guard import Guard
from align.lit.opened import Opened


@final
class Loaders(L.LightningDataModule):
    """Training and validation batches of this rank, which only Lightning's trainer knows.

    Args:
        data: the opened shards.
        workers: processes that decode, per rank.
        start_step: the step at which training begins.
        steps: the steps of the whole run.
        keep: bytes for decoded training samples.
        numbers: give training batches the numbers of their samples.
        guard: bounds of the patience with data workers. Default: `Guard()`.

    ``stops`` is asked while data workers bring nothing: where it returns True, the pass ends with
    ``align.data.loader.StopAsked``.
    """

    def __init__(
        self,
        data: Opened,
        *,
        workers: int,
        start_step: int,
        steps: int,
        keep: int = 0,
        numbers: bool = False,
        guard: Guard | None = None,
    ):
        super().__init__()
        self.guard = guard or Guard()
        self.stops: Callable[[], bool] = lambda: False
        self.keep, self.numbers = keep, numbers
        self.data, self.workers, self.start_step, self.steps = data, workers, start_step, steps
        self._train: Loader | None = None
        self._val: Loader | None = None

    @property
    def waited(self) -> float:
        """Seconds that training has waited for data."""
        return 0.0 if self._train is None else self._train.waited

    def train_dataloader(self) -> Loader:
        self._train = self._load(self.data.train, train=True)
        return self._train

    def val_dataloader(self) -> Loader | list[Loader]:
        if self.data.val is None:
            return []
        self._val = self._load(self.data.val, train=False)
        return self._val

    def close(self) -> None:
        """End the data workers."""
        for loader in filter(None, (self._train, self._val)):
            loader.close()

    def _load(self, shards: Part | Mixture | Concat, *, train: bool) -> Loader:
        trainer, data = self.trainer, self.data
        rank, world = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        return Loader(
            shards,
            data.preprocess,
            batch=data.batch,
            workers=self.workers,
            train=train,
            seed=data.seed,
            rank=rank,
            world=world,
            start_step=self.start_step if train else 0,
            steps=max(0, self.steps - self.start_step) if train else None,
            share=everyones if world > 1 else None,
            budget=data.budget if train else None,
            ledger=data.ledger,
            keep=self.keep,
            numbers=train and self.numbers,
            restarts=self.guard.restarts,
            seconds=self.guard.data_seconds,
            stops=lambda: self.stops(),
            views=data.views if train else None,
        )
