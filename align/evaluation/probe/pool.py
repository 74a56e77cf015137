"""Rows that a probe learns from or answers: those of one modality whose samples have a class, or a number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from align.embedding.tables import tensor_of
from align.values import Embeddings


class Pool(NamedTuple):
    """n rows. table: (N, D), with all rows of the modality. place: (n,), rows in it. sample: (n,) of each row.

    target: (n,) int64, the class of each row, (n, c) bool, its classes, or (n,) float64, its number.
    """

    table: Tensor
    place: Tensor
    sample: Tensor
    target: Tensor

    def only(self, samples: Tensor) -> Pool:
        """Return the rows of some samples. samples: (B,) bool."""
        kept = samples[self.sample]
        return Pool(self.table, self.place[kept], self.sample[kept], self.target[kept])


def pool_of(table: Embeddings, modality: str, target: Tensor, known: Tensor) -> Pool:
    """Return the rows of a modality whose samples are ``known`` (B,) bool, with the target of each sample (B, …)."""
    rows = table[modality]
    place = ((rows.sample >= 0) & known[rows.sample]).nonzero().flatten()
    sample = rows.sample[place]
    return Pool(tensor_of(rows), place, sample, target[sample])


def to_classes(members: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], bool]:
    """Return the targets of samples, (B,) bool where they have one, and True for attributes of several classes.

    members: of each split, (B, c) bool, the classes of its samples. The target is (B,) int64, or the classes themselves
    where any sample of any split has several.
    """
    several = any(bool((table.sum(dim=1) > 1).any()) for table in members)
    known = [table.any(dim=1) for table in members]
    return ([*members] if several else [table.int().argmax(dim=1) for table in members]), known, several


def sample_kinds(pool: Pool, size: int) -> Tensor:
    """Return (B,) int64, the class of each of B samples with a row, the first of several, and -1 of the others."""
    kind = torch.full((size,), -1, dtype=torch.int64)
    kind[pool.sample] = pool.target if pool.target.ndim == 1 else pool.target.int().argmax(dim=1)
    return kind
