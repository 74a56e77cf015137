"""Shards for Lightning: whole batches of this rank, one endless stream over the epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L

from align.data import Concat, Loader, Mixture
from align.data.bad import Budget
from align.data.ledger import Ledger, everyones
from align.data.mixing.sources import Part, Sources
from align.data.reading import check_by_position, log
from align.lit.sources import AS_ONE, Mix, Named, Opener, Source
from align.lit.standing import Standing
from align.model import JointModel


class AlignData(L.LightningDataModule):
    """Training and validation shards.

    Args:
        train: a path, glob or brace pattern of training shards, or a list of them; or an ``align.data.Pipeline``, by
            class path; or named sources that are mixed,
            ``{digits: {urls: …, weight: 2}, esc: {urls: …, weight: 1}}``, see ``align.lit.sources.Source``.
        val: the same for validation (named sources follow one another); none: no validation.
        batch: samples in a step, over all ranks, a multiple of their number. What is left over at an epoch's end is
            dropped (another order brings it back); a validation has every sample, in a smaller last batch.
        workers: processes that decode, per rank. Their number changes no bit of the result.
        members: modality -> member names, for shards that do not name their members by modality.
        streams: the order of samples is a round robin over this many streams.
        block: neighbouring samples of a shard that are shuffled, and fetched, together; none: 1 for local files, which
            is a full shuffle, and 256 where a shard is remote. A block goes anywhere in an epoch; its samples stay
            within 8 x block x streams positions of each other (98,304 for 256 and 48).
        max_bad: the run stops above max(10, max_bad x seen) bad samples, and at an epoch's end above max(1, max_bad x
            its samples); 1 never stops it.
        mix: how named sources are mixed.
        resampled: draw training shards with replacement, without counting them: for very large sets. Needs samples.
        samples: how many samples an epoch of resampled shards has.
        allow_pipe: run ``pipe:COMMAND`` among the shards in a shell; refused otherwise.
    """

    def __init__(
        self,
        train: Named,
        val: Named | None = None,
        batch: int = 256,
        workers: int = 2,
        members: dict[str, list[str]] | None = None,
        streams: int = 48,
        block: int | None = None,
        max_bad: float = 0.001,
        mix: Mix = AS_ONE,
        resampled: bool = False,
        samples: int | None = None,
        allow_pipe: bool = False,
    ):
        super().__init__()
        if batch < 1 or workers < 0:
            raise ValueError(f"data.batch must be at least 1 and data.workers at least 0; got {batch} and {workers}")
        self.train, self.val, self.batch, self.workers = train, val, batch, workers
        self.max_bad, self.mix, self.resampled, self.samples = max_bad, mix, resampled, samples
        if isinstance(train, dict) and (resampled or samples is not None):
            raise ValueError("data.resampled and data.samples belong to the single sources where there are several")
        if not isinstance(train, dict) and mix != AS_ONE:
            raise ValueError(
                "data.mix mixes named sources; data.train names one set of shards: write {NAME: {urls: …}}"
            )
        self._opener = Opener(streams, block, max_bad, members, allow_pipe)
        self.start_step, self.steps = 0, 0
        self.loader: Loader | None = None
        self.val_loader: Loader | None = None

    def open(self, model: JointModel, seed: int) -> None:
        """Find the shards, and check that they hold what the model reads.

        Raises FileNotFoundError for a pattern without files, ValueError where no configured modality is in the shards,
        where one is in none of the training shards, or where they hold less than one batch.
        """
        self._preprocess = model.preprocess
        self._seed = seed
        self.ledger = Ledger()
        self.train_shards = self._open_train(seed)
        self.val_shards = self._open_val()
        for shards in filter(None, (self.train_shards, self.val_shards)):
            for part in shards.sources.values() if isinstance(shards, Sources) else [shards]:
                check_modalities(part.modalities, model.modalities, part.name)
                for shard, reason, n in part.lost:
                    self.ledger.add_lost(shard, reason, n)
        check_towers(self.train_shards, model.modalities)
        if len(self.train_shards) < self.batch:
            raise ValueError(
                f"{self.train_shards.name} … hold {len(self.train_shards)} samples, fewer than "
                f"data.batch={self.batch}: lower it"
            )
        self.budget = Budget(self.max_bad, lost=self.train_shards.lost)
        self.standing = Standing(self.train_shards, self.batch, self.mix.losses_every)

    def _open_train(self, seed: int) -> Part | Mixture:
        if isinstance(self.train, dict):
            return self._opener.mixture(self.train, self.mix, batch=self.batch, seed=seed)
        return self._opener.one(Source(self.train, resampled=self.resampled, samples=self.samples), seed)

    def _open_val(self) -> Part | Concat | None:
        if self.val is None:
            return None
        if isinstance(self.val, dict):
            shards = self._opener.concat(self.val)
        else:
            shards = self._opener.one(Source(self.val), 0, shuffle=False)
        check_by_position(shards)
        return shards

    @property
    def steps_per_epoch(self) -> int:
        return len(self.train_shards) // self.batch

    @property
    def waited(self) -> float:
        """Seconds that training has waited for data."""
        return 0.0 if self.loader is None else self.loader.waited

    def _loader(self, shards: Part | Mixture | Concat, train: bool) -> Loader:
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
            share=everyones if world > 1 else None,
            budget=self.budget if train else None,
            ledger=self.ledger,
        )

    def train_dataloader(self) -> Loader:
        self.loader = self._loader(self.train_shards, train=True)
        return self.loader

    def val_dataloader(self) -> Loader | list[Loader]:
        if self.val_shards is None:
            return []
        self.val_loader = self._loader(self.val_shards, train=False)
        return self.val_loader

    def order(self) -> dict[str, int]:
        """What the order of samples follows from, for a checkpoint: with another, a step is another place."""
        shards = self.train_shards
        numbers = {"samples": len(shards), "data.streams": shards.streams, "data.block": shards.block}
        return {"seed": self._seed, "data.batch": self.batch, **numbers}

    def account(self) -> dict[str, Any]:
        """What was bad so far, for a checkpoint."""
        return {"budget": self.budget.state(), "ledger": self.ledger.state()}

    def go_on(self, account: Mapping[str, Any]) -> None:
        """Take up an account: what was bad before a stop counts after it, against the budget too."""
        self.budget = Budget(self.max_bad, lost=self.train_shards.lost, state=account["budget"])
        self.ledger.resume(account["ledger"])

    def close(self) -> None:
        """End the data workers."""
        for loader in filter(None, (self.loader, self.val_loader)):
            loader.close()


def check_modalities(found: Mapping[str, int], wanted: Sequence[str], where: str) -> None:
    """Raise ValueError where shards have none of the wanted modalities, listing what they have."""
    if not any(found.get(m) for m in wanted):
        has = ", ".join(f"{m} ({n})" for m, n in found.items() if n) or "no modality at all"
        raise ValueError(
            f"the shards of {where} have none of the model's modalities ({', '.join(wanted)}); they have {has}"
        )


def check_towers(shards: Part | Mixture, wanted: Sequence[str]) -> None:
    """Raise ValueError for a modality of the model that no training shard has; of drawn shards only the first is known,
    of a pipeline only its first samples, so there a line is logged."""
    parts = shards.sources.values() if isinstance(shards, Sources) else [shards]
    found = {m for part in parts for m, n in part.modalities.items() if n}
    absent = [m for m in wanted if m not in found]
    if absent:
        says = f"the training shards have no row of {', '.join(absent)}; they have {', '.join(sorted(found))}"
        if all(part.counted for part in parts):
            raise ValueError(f"{says}. Such a tower learns nothing: name it as they do, or leave it out")
        log.warning("%s, as far as the first ones tell", says)


def own_data(trainer: L.Trainer) -> AlignData:
    """The data of a callback's trainer, which is ours. Raises TypeError for other data."""
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, AlignData):
        raise TypeError(f"this callback belongs to AlignData, got {type(data).__name__}")
    return data
