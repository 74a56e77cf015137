"""Embeddings of the slice, from all ranks: the table that measures read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from align.diagnostics.slice import Slice
from align.distributed import gather
from align.values import Embeddings


class Side(NamedTuple):
    """Rows of one modality. values: (n, D) float32 on the CPU, as the model gives them.

    sample: (n,) number in the slice. key: (n,) equal for rows that are hits of each other: of one group, or of one
    sample without a group. first: (S,) the first row of each of the slice's samples, -1 for none.
    """

    values: Tensor
    sample: Tensor
    key: Tensor
    first: Tensor


class Table(NamedTuple):
    """The embedded slice. sides: by modality, those with two finite rows at least. labels: of the samples."""

    sides: dict[str, Side]
    labels: Sequence[Any]

    def pair_rows(self, a: str, b: str) -> tuple[Tensor, Tensor]:
        """Return the first rows (p, D) of two modalities, of the samples that have both."""
        x, y = self.sides[a], self.sides[b]
        both = ((x.first >= 0) & (y.first >= 0)).nonzero().flatten()
        return x.values[x.first[both]], y.values[y.first[both]]


def make_table(batches: Sequence[Embeddings], part: Slice, labels: Sequence[Any]) -> Table:
    """Return the table of all ranks' embeddings. Every rank calls it.

    batches: of this rank, one for each of the slice's parts. labels: of the samples of all ranks.

    Hard negatives are left out, and so are rows with a number that is not finite.
    """
    sides: dict[str, Side] = {}
    for m in sorted(batches[0]):
        values, samples, keys, start = [], [], [], part.first
        for batch in batches:
            rows = batch[m]
            at = rows.sample.clamp(min=0)
            number = at + start
            group = torch.full_like(number, -1) if batch.group is None else batch.group.to(at)[at]
            real = rows.sample >= 0
            values.append(rows.values[real])  # pyright: ignore[reportArgumentType]
            samples.append(number[real])
            keys.append(torch.where(group >= 0, group, -2 - number)[real])  # below zero, where no group's is
            start += batch.size
        v, s, k = (gather(torch.cat(parts)).cpu() for parts in (values, samples, keys))
        finite = v.isfinite().all(dim=1)
        v, s, k = v[finite].float(), s[finite], k[finite]
        if len(v) > 1:
            first = torch.full((part.size,), len(s)).scatter_reduce(0, s, torch.arange(len(s)), "amin")
            sides[m] = Side(v, s, k, torch.where(first < len(s), first, -1))
    return Table(sides, labels)
