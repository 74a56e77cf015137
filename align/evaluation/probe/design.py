"""Rows of a linear model, in the coordinates in which it is fitted: centred, along their principal axes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

KEPT = 32 << 20  # numbers of float64 that are kept, 256 MiB; more rows are turned anew in each pass
CELLS = 1 << 21  # numbers of a block
SPREAD = 1e-10  # share of the rows' mean square below which their variance is rounding
AXIS = 1e-13  # share of the largest variance below which an axis is rounding


@final
class Design:
    """Rows (n, D) of a table, centred, along the r axes of which they have any variance.

    A linear model with an L2 penalty and a free intercept has the same solution in these coordinates, and its
    steps are fewer there. variance: (r,) of each axis. r is 0 where all rows are equal.

    Args:
        table: (N, D). places: (n,) of the rows in it. unit: scale each row to the length 1.
    """

    def __init__(self, table: Tensor, places: Tensor, unit: bool = True):
        self.table, self.places, self.unit = table, places, unit
        self.n, width = len(places), table.shape[1]
        self._step = max(1, CELLS // max(1, width))
        self.mean = sum((x.sum(dim=0) for _, x in self._raw()), torch.zeros(width).double()) / max(1, self.n)
        square = sum(float((x * x).sum()) for _, x in self._raw()) / max(1, self.n)
        self.axes, self.variance = self._turn(square)  # (D, r), (r,)
        self._kept: Tensor | None = None
        if self.n * len(self.variance) <= KEPT:
            self._kept = torch.empty(self.n, len(self.variance), dtype=torch.float64)
            for at, x in self._raw():
                self._kept[at] = (x - self.mean) @ self.axes

    def blocks(self, cells: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield (places, (b, r or D)) of some rows at a time. cells: numbers a row that the caller makes of it.

        The columns are those of ``weights(…)``: the axes, or the centred rows' own where they are too many to keep.
        """
        if self._kept is None:
            yield from ((at, x - self.mean) for at, x in self._raw())
            return
        step = max(1, CELLS // max(1, cells))
        for start in range(0, self.n, step):
            at = slice(start, min(self.n, start + step))
            yield at, self._kept[at]

    def weights(self, weight: Tensor) -> Tensor:
        """Return weights (r, c) of the axes as those of the columns of ``blocks``."""
        return weight if self._kept is not None else self.axes @ weight

    def axial(self, gradient: Tensor) -> Tensor:
        """Return a gradient by the columns of ``blocks`` as that by the axes, (r, c)."""
        return gradient if self._kept is not None else self.axes.T @ gradient

    def original(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights (r, c) and intercepts (c,) as those of the table's rows, (D, c) and (c,)."""
        turned = self.axes @ weight
        return turned, bias - self.mean @ turned

    def _turn(self, square: float) -> tuple[Tensor, Tensor]:
        width = len(self.mean)
        if self.n <= width and self.n * width <= KEPT:
            x = torch.cat([x - self.mean for _, x in self._raw()]) if self.n else torch.zeros(0, width).double()
            _, length, axes = torch.linalg.svd(x, full_matrices=False)
            axes, variance = axes.T, length**2 / max(1, self.n)
        else:
            spread = torch.zeros(width, width, dtype=torch.float64)
            for _, x in self._raw():
                spread += (x - self.mean).T @ (x - self.mean)
            variance, axes = torch.linalg.eigh(spread / self.n)
        if float(variance.clamp(min=0).sum()) <= SPREAD * square:
            return axes[:, :0], variance[:0]
        there = variance > AXIS * variance.max()
        return axes[:, there], variance[there]

    def _raw(self) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, self.n, self._step):
            at = slice(start, min(self.n, start + self._step))
            yield at, take(self.table, self.places[at], self.unit)


def take(table: Tensor, places: Tensor, unit: bool) -> Tensor:
    """Return rows (b, D) of a table in float64, each of the length 1 with ``unit``."""
    x = table[places].double()
    return F.normalize(x, dim=1) if unit else x
