"""Shards for Lightning: whole batches of this rank, one endless stream over the epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import lightning as L

from align.data import Loader, Shards
from align.data.bad import is_fault
from align.model import JointModel


class AlignData(L.LightningDataModule):
    """Training and validation shards.

    Args:
        train: a path, glob or brace pattern of training shards, or a list of them.
        val: the same for validation; none: no validation.
        batch: samples in a step, over all ranks.
        workers: processes that decode, per rank. Their number changes no bit of the result.
        members: modality -> member names, for shards that do not name their members by modality.
        streams: the order of samples is a round robin over this many streams.
        block: samples that stay together when shuffling; none: 1 for local files.
        max_bad: the share of bad samples above which the run stops; 1 never stops it.
        allow_pipe: run ``pipe:COMMAND`` among the shards in a shell; refused otherwise.
    """

    def __init__(
        self,
        train: str | list[str],
        val: str | list[str] | None = None,
        batch: int = 256,
        workers: int = 2,
        members: dict[str, list[str]] | None = None,
        streams: int = 48,
        block: int | None = None,
        max_bad: float = 0.001,
        allow_pipe: bool = False,
    ):
        super().__init__()
        if batch < 1 or workers < 0:
            raise ValueError(f"data.batch must be at least 1 and data.workers at least 0; got {batch} and {workers}")
        self.train, self.val, self.batch, self.workers = train, val, batch, workers
        self.members, self.streams, self.block, self.max_bad = members, streams, block, max_bad
        self.allow_pipe = allow_pipe
        self.start_step, self.steps = 0, 0
        self.loader: Loader | None = None
        self.val_loader: Loader | None = None

    def open(self, model: JointModel, seed: int) -> None:
        """Find the shards, and check that they hold what the model reads.

        Raises FileNotFoundError for a pattern without files, ValueError where no configured modality is in the shards
        or where they hold less than one batch.
        """
        self._preprocess = {m: model.towers[m].preprocess for m in model.modalities}
        self._seed = seed
        self.train_shards = self._shards(self.train, seed=seed, shuffle=True)
        self.val_shards = None if self.val is None else self._shards(self.val, shuffle=False)
        for shards in filter(None, (self.train_shards, self.val_shards)):
            check_modalities(shards.modalities, model.modalities, str(shards.urls[0]))
        if len(self.train_shards) < self.batch:
            raise ValueError(f"{self.train} hold {len(self.train_shards)} samples, fewer than data.batch={self.batch}")

    def _shards(self, urls: str | list[str], *, shuffle: bool, seed: int = 0) -> Shards:
        return Shards(
            urls,
            seed=seed,
            shuffle=shuffle,
            streams=self.streams,
            block=self.block,
            max_bad=self.max_bad,
            members=self.members,
            allow_pipe=self.allow_pipe,
        )

    @property
    def steps_per_epoch(self) -> int:
        return len(self.train_shards) // self.batch

    def _loader(self, shards: Shards, train: bool) -> Loader:
        trainer = self.trainer
        rank, world = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        return Loader(
            shards,
            self._preprocess,
            batch=self.batch,
            workers=self.workers,
            train=train,
            seed=self._seed,
            rank=rank,
            world=world,
            start_step=self.start_step if train else 0,
            steps=self.steps - self.start_step if train else None,
        )

    def train_dataloader(self) -> Loader:
        self.loader = self._loader(self.train_shards, train=True)
        return self.loader

    def val_dataloader(self) -> Loader | list[Loader]:
        if self.val_shards is None:
            return []
        self.val_loader = self._loader(self.val_shards, train=False)
        return self.val_loader

    def close(self) -> None:
        """End the data workers."""
        for loader in filter(None, (self.loader, self.val_loader)):
            loader.close()

    def bad(self) -> dict[str, int]:
        """Bad members by reason, so far, training and validation. Positions without a row are counted too."""
        total: dict[str, int] = {}
        for loader in filter(None, (self.loader, self.val_loader)):
            for reason, n in loader.counts.items():
                total[reason] = total.get(reason, 0) + n
        return total

    def faults(self) -> int:
        """How many of them are faults: a hole, or a member that no tower reads, is none."""
        return sum(n for reason, n in self.bad().items() if is_fault(reason))


def check_modalities(found: Mapping[str, int], wanted: Sequence[str], where: str) -> None:
    """Raise ValueError where shards have none of the wanted modalities, listing what they have."""
    if not any(found.get(m) for m in wanted):
        has = ", ".join(f"{m} ({n})" for m, n in found.items() if n) or "no modality at all"
        raise ValueError(
            f"the shards of {where} have none of the model's modalities ({', '.join(wanted)}); they have {has}"
        )
