"""Rows of unit length, read in blocks from a table that stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

NUMBERS = 1 << 21  # numbers of a block in float64: 16 MiB


@final
@dataclass(frozen=True)
class UnitRows:
    """Rows of a table, divided by their length as they are read. A row of zeros stays as it is.

    values: (m, D). index: (n,) int64, the rows of the table that count, in their order. None: all of them.
    """

    values: Tensor
    index: Tensor | None = None

    def __len__(self) -> int:
        return len(self.values if self.index is None else self.index)

    @property
    def dim(self) -> int:
        """D."""
        return self.values.shape[1]

    def block(self, start: int, stop: int, dtype: torch.dtype = torch.float64) -> Tensor:
        """Return the rows start..stop-1, (b, D)."""
        rows = self.values[start:stop] if self.index is None else self.values[self.index[start:stop]]
        return F.normalize(rows.double(), dim=1).to(dtype)

    def blocks(self, dtype: torch.dtype = torch.float64) -> Iterator[tuple[slice, Tensor]]:
        """Yield (rows, their values (b, D)) until all n came."""
        step = max(1, NUMBERS // max(1, self.dim))
        for start in range(0, len(self), step):
            stop = min(len(self), start + step)
            yield slice(start, stop), self.block(start, stop, dtype)

    def take(self, places: Tensor) -> Tensor:
        """Return the rows at ``places`` (n,) as a table (n, D) in float64."""
        rows = self.values[places if self.index is None else self.index[places]]
        return F.normalize(rows.double(), dim=1)

    def mean(self) -> Tensor:
        """Return the mean row (D,) in float64."""
        total = torch.zeros(self.dim, dtype=torch.float64)
        for _, x in self.blocks():
            total += x.sum(dim=0)
        return total / max(1, len(self))
