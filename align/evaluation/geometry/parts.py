"""Rows of a table that geometry counts: finite ones of real samples, and the first row of each sample."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from align.embedding.tables import tensor_of
from align.metrics.geometry import UnitRows
from align.values import Embeddings

LEAST = 4  # rows that the unbiased estimate of HSIC needs


class Part(NamedTuple):
    """Rows of one modality. sample: (n,) of each row. first: (B,) the row of the table that stands for a sample, or
    -1."""

    rows: UnitRows
    sample: Tensor
    first: Tensor

    def of(self, samples: Tensor) -> UnitRows:
        """Return the first rows of samples (n,)."""
        return select(self.rows.values, self.first[samples])


def read_parts(table: Embeddings, modalities: list[str] | None = None) -> tuple[dict[str, Part], list[str]]:
    """Return modality -> its rows, and a note for each modality and row that is left out.

    Rows of no sample (hard negatives) do not count, nor do rows with a number that is not finite. modalities: those
    that are read, all by default.
    """
    found: dict[str, Part] = {}
    notes: list[str] = []
    for m in sorted(table if modalities is None else modalities):
        rows = table[m]
        values = tensor_of(rows)
        real = rows.sample >= 0
        finite = torch.cat([block.isfinite().all(dim=1) for block in values.split(1 << 14)]) if len(values) else real
        kept = (real & finite).nonzero().flatten()
        if spoiled := int((real & ~finite).sum()):
            notes.append(f"geometry: {spoiled:,} of {int(real.sum()):,} rows of {m} are not finite: they are left out")
        if len(kept) < LEAST:
            notes.append(f"geometry of {m} is not measured: it has {len(kept)} rows, and needs {LEAST}")
            continue
        first = torch.full((table.size,), len(values)).scatter_reduce(0, rows.sample[kept], kept, "amin")
        first = torch.where(first < len(values), first, -1)
        found[m] = Part(select(values, kept), rows.sample[kept], first)
    return found, notes


def common(a: Part, b: Part) -> Tensor:
    """Return the samples (n,) that have a row of both."""
    return ((a.first >= 0) & (b.first >= 0)).nonzero().flatten()


def select(values: Tensor, index: Tensor) -> UnitRows:
    """Return some rows of a table, without an index where they are all of them in their order."""
    whole = len(index) == len(values) and bool((index == torch.arange(len(values))).all())
    return UnitRows(values, None if whole else index)
