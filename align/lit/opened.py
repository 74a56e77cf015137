"""Shards of a run once they are found and checked against its model, with the account of the bad samples in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from align.data import Concat, Mixture
from align.data.bad import Budget
from align.data.ledger import Ledger
from align.data.mixing.sources import Part, Sources
from align.data.reading import log
from align.lit.standing import Standing
from align.preprocess import Preprocess


@final
@dataclass(frozen=True, eq=False)
class Opened:
    """Data of a run: `AlignData.open` makes it, and only the counts of `ledger` and `budget` change from then on.

    train: the training shards. val: the validation shards, or None.
    preprocess: modality -> the preprocess that reads it.
    batch: positions in a step, over all ranks. seed: of order and augmentation.
    ledger: bad members by shard, reason and name. budget: bad samples so far, against ``data.max_bad``.
    standing: the place of each source at a step. views: modality -> rows that each row becomes in training.
    """

    train: Part | Mixture
    val: Part | Concat | None
    preprocess: Mapping[str, Preprocess]
    batch: int
    seed: int
    ledger: Ledger
    budget: Budget
    standing: Standing
    views: Mapping[str, int] = field(default_factory=dict)

    @property
    def steps_per_epoch(self) -> int:
        return len(self.train) // self.batch

    @property
    def order(self) -> dict[str, int]:
        """Numbers that fix the order of samples, for a checkpoint. With another one a step has other samples."""
        numbers = {"samples": len(self.train), "data.streams": self.train.streams, "data.block": self.train.block}
        return {"seed": self.seed, "data.batch": self.batch, **numbers}

    def account(self) -> dict[str, Any]:
        """Return the counts of bad samples so far, for a checkpoint."""
        return {"budget": self.budget.state(), "ledger": self.ledger.state()}


def check(train: Part | Mixture, val: Part | Concat | None, modalities: Sequence[str], batch: int) -> None:
    """Raise ValueError for shards that a model with these modalities cannot train on.

    They have none of the modalities, or hold less than one batch.
    """
    for part in _parts(train, val):
        _check_modalities(part.modalities, modalities, part.name)
    if len(train) < batch:
        raise ValueError(f"{train.name} … hold {len(train)} samples, fewer than data.batch={batch}: lower it")


def open_account(
    train: Part | Mixture, val: Part | Concat | None, max_bad: float, earlier: Mapping[str, Any]
) -> tuple[Ledger, Budget]:
    """Return the counts that a run begins with.

    They are those of ``earlier``, an `Opened.account`, or else of the samples lost before the first read.
    """
    ledger = Ledger()
    if "ledger" in earlier:
        ledger.resume(earlier["ledger"])
        return ledger, Budget(max_bad, lost=train.lost, state=earlier["budget"])
    for part in _parts(train, val):
        for shard, reason, n in part.lost:
            ledger.add_lost(shard, reason, n)
    return ledger, Budget(max_bad, lost=train.lost)


def _parts(*opened: Part | Mixture | Concat | None) -> list[Part]:
    found: list[Part] = []
    for shards in opened:
        found += shards.sources.values() if isinstance(shards, Sources) else [] if shards is None else [shards]
    return found


def _check_modalities(found: Mapping[str, int], wanted: Sequence[str], where: str) -> None:
    """Raise ValueError where shards have none of the wanted modalities, listing those that they have."""
    if not any(found.get(m) for m in wanted):
        has = ", ".join(f"{m} ({n})" for m, n in found.items() if n) or "no modality at all"
        raise ValueError(
            f"the shards of {where} have none of the model's modalities ({', '.join(wanted)}); they have {has}"
        )


def check_towers(train: Part | Mixture, trained: Sequence[str]) -> None:
    """Raise ValueError for a modality whose tower trains and that no training shard has.

    Only the first of drawn shards is known, and only the first samples of a pipeline. There a line is logged instead.
    """
    parts = _parts(train)
    found = {m for part in parts for m, n in part.modalities.items() if n}
    absent = [m for m in trained if m not in found]
    if absent:
        says = f"the training shards have no row of {', '.join(absent)}; they have {', '.join(sorted(found))}"
        if all(part.counted for part in parts):
            raise ValueError(
                f"{says}. Such a tower learns nothing: name it as they do, freeze it (tuning.freeze), or leave it out"
            )
        log.warning("%s, as far as the first ones tell", says)
