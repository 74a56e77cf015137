"""Warning of equal captions in a batch that no group joins, one line at the start of a run."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import lightning as L
import torch
from torch import Tensor

from align.data.names import TEXT
from align.model import JointModel
from align.objective import Objective
from align.values import Batch, Rows

SHARE = 0.1  # of a modality's rows in the batch: fewer equal ones hardly move the loss


class Repeats(L.Callback):
    """Reader of the first batch that this process trains on: equal captions in it are negatives of each other."""

    def __init__(self, model: JointModel, objective: Objective, *, mixed: bool):
        self.model, self.objective, self.mixed = model, objective, mixed
        self.seen = False

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.seen or not isinstance(batch, Batch):
            return
        self.seen = True
        if not trainer.is_global_zero:
            return
        for modality in sorted(self.objective.contrasted):
            reads_text = TEXT in self.model.preprocess[modality].suffixes
            if reads_text and (line := describe_repeats(batch, modality, self.mixed)):
                print(line, file=sys.stderr, flush=True)


def describe_repeats(batch: Batch, modality: str, mixed: bool) -> str:
    """Return the line about a modality's rows in a batch, or "" where less than a tenth is repeated.

    mixed: the batch's sources have names.
    """
    rows = batch.get(modality)
    repeated = [] if rows is None else find_repeats(rows, batch.group)
    if rows is None or len(repeated) <= SHARE * rows.n:
        return ""
    sources = Counter(batch.source[i] for i in rows.sample[repeated].tolist()) if mixed else Counter[str]()
    where = f" (sources: {', '.join(f'{name} {n}' for name, n in sources.most_common(5))})" if sources else ""
    return (
        f"equal captions: {len(repeated)} of the {rows.n} {modality} rows of the first batch equal another sample's, "
        f"and no group joins the two{where}: each is the other's negative. `align shards build SHARDS --out OUT "
        "--group caption` makes shards with groups (--group label, where there are labels)"
    )


def find_repeats(rows: Rows, group: Tensor | None) -> list[int]:
    """Return the rows that equal a row of another sample, where one of the two samples has no group.

    Samples of two stated groups are negatives on purpose. Hard negatives do not count.
    """
    values = rows.values
    if not isinstance(values, Tensor) or len(values) < 2:
        return []
    _, same = torch.unique(values.flatten(1), dim=0, return_inverse=True)  # (n,) equal rows have one number
    numbers, samples = same.tolist(), rows.sample.tolist()
    groups = [-1] * (max(samples) + 1) if group is None else group.tolist()
    owner = [None if i < 0 else ("group", groups[i]) if groups[i] >= 0 else ("sample", i) for i in samples]
    owners: dict[int, set[Any]] = {}
    for number, mark in zip(numbers, owner, strict=True):
        owners.setdefault(number, set()).update([] if mark is None else [mark])
    without = {
        number for number, marks in owners.items() if len(marks) > 1 and any(mark[0] == "sample" for mark in marks)
    }
    return [i for i, number in enumerate(numbers) if owner[i] is not None and number in without]
