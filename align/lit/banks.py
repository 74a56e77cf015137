"""Filling of the banks of negatives when training starts, with every row of the training set in a frozen modality.

The rows are preprocessed as in evaluation. They come from the shards, or from a cached column. So a resumed run gets
the same bank to the bit. Every rank reads and holds all of it.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Collection
from typing import Any, NamedTuple, final

import lightning as L
import torch
from torch import Tensor

from align.data import Concat, Loader
from align.data.bad import Budget
from align.data.ledger import Ledger
from align.data.mixing.sources import Sources
from align.data.reading import Reading
from align.lit.module import AlignModule
from align.lit.opened import Opened
from align.losses import Bank
from align.model import JointModel
from align.objective import Objective
from align.values import Values

BATCH = 1024  # samples that a tower sees at a time. Another number could change a row's last bits


class Filling(NamedTuple):
    """Rows of one modality over a whole set, as ``Bank.fill`` takes them."""

    values: Tensor  # (R, D)
    numbers: Tensor  # (R,)
    groups: Tensor  # (R,)
    content: Tensor  # (R,)


@final
class Banks(L.Callback):
    """Callback that fills every ``Bank`` of an objective before the first step, after a checkpoint is loaded.

    A bank of a term that does not train in this fit stays as it is.

    workers: processes that decode. Raises ValueError where the training samples have no numbers.
    """

    def __init__(self, module: AlignModule, data: Opened, *, workers: int = 0):
        self.module, self.data, self.workers = module, data, workers
        self.found = find_banks(module.objective)
        check_banks(self.found, data.train)
        self.training = list_training(self.found, module.terms)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Fill the banks. Raises ValueError where a bank's tower trains, and for one that gets no row."""
        model, train = self.module.model, self.data.train
        for of in sorted({bank.of for _, bank in self.training}):
            check_frozen(model, of)
            begin = time.monotonic()
            filling = read_rows(model, train, of, workers=self.workers)
            if not len(filling.numbers):
                raise ValueError(f"the bank of {of!r} gets no row: no training sample of {train.name} … has one")
            for _, bank in self.training:
                if bank.of == of:
                    bank.fill(*filling)
            if trainer.is_global_zero:
                took = time.monotonic() - begin
                print(f"bank of {of}: {len(filling.numbers):,} rows in {took:.1f} s", file=sys.stderr, flush=True)


def find_banks(objective: Objective) -> list[tuple[str, Bank]]:
    """Return the banks of an objective, each with the name of its term."""
    return [
        (name, part) for name, loss in objective.losses.items() for part in loss.modules() if isinstance(part, Bank)
    ]


def list_training(found: list[tuple[str, Bank]], terms: Collection[str] | None) -> list[tuple[str, Bank]]:
    """Return the banks of these terms. None: all."""
    return [(name, bank) for name, bank in found if terms is None or name in terms]


def check_banks(found: list[tuple[str, Bank]], train: Reading) -> None:
    """Raise ValueError where the training samples have no numbers."""
    for name, _ in found:
        if train.pipelines or not train.numbers or train.number(0) < 0:
            kind = "a pipeline's" if train.pipelines else "resampled"
            raise ValueError(
                f"term {name!r}: a bank stores each training sample by its number, and {kind} samples have no number; "
                "train on shards that are read whole"
            )


def check_frozen(model: JointModel, of: str) -> None:
    """Raise ValueError where a parameter of a tower trains: its rows in a bank would be out of date."""
    tower = model.towers[of]
    for part in ("encoder", "head"):
        for name, parameter in getattr(tower, part).named_parameters():
            if parameter.requires_grad:
                raise ValueError(
                    f"the bank of {of!r} would be out of date: {of}.{part}.{name} trains; freeze the tower with "
                    f"tuning.freeze: [model.towers.{of}.*], or take align.losses.MemoryQueue"
                )


def read_rows(model: JointModel, train: Reading, of: str, *, workers: int = 0) -> Filling:
    """Return the embeddings of a modality over the whole training set, in evaluation mode, in the order of numbers.

    Hard negatives are left out. Rows have equal content if their bytes at the tower's input are equal. A member that
    cannot be read has no row. It is counted when training reads it.
    """
    shards: Reading = train
    if isinstance(train, Sources):
        overrides = {name: {of: readers[of]} for name, readers in train.overrides.items() if of in readers}
        shards = Concat(train.sources, overrides)
    loader = Loader(
        shards,
        {of: model.preprocess[of]},
        batch=BATCH,
        workers=workers,
        train=False,
        budget=Budget(1.0),
        ledger=Ledger(),
    )
    values, numbers, groups, content = [], [], [], []
    try:
        for batch in loader:
            rows = batch[of]
            kept = (rows.sample >= 0).nonzero().squeeze(1)
            sample = rows.sample[kept]
            number = torch.tensor([shards.number(p) for p in batch.position.tolist()], dtype=torch.int64)
            values.append(model.embed_values(of, rows.values)[kept.to(model.device)])
            numbers.append(number[sample])
            groups.append(torch.full_like(sample, -1) if batch.group is None else batch.group[sample])
            content.append(_content(rows.values)[kept])
    finally:
        loader.close()
    order = torch.cat(numbers).argsort(stable=True)
    found = Filling(torch.cat(values), torch.cat(numbers), torch.cat(groups), torch.cat(content))
    return Filling(found.values[order.to(model.device)], *(x[order].to(model.device) for x in found[1:]))


def _content(values: Values) -> Tensor:
    """Return one number (n,) for rows whose bytes are equal, in every batch."""
    parts: list[Any] = [values[name] for name in sorted(values)] if isinstance(values, dict) else [values]
    rows = [part.reshape(len(part), -1).numpy() for part in parts]
    hashes = [hashlib.blake2b(b"\0".join(x[i].tobytes() for x in rows), digest_size=8) for i in range(len(rows[0]))]
    return torch.tensor([int.from_bytes(h.digest(), "little") >> 1 for h in hashes], dtype=torch.int64)
