"""Representational similarity: two matrices of dissimilarities, their rank correlation and its test."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import permutations as orders
from typing import NamedTuple

import torch
from torch import Tensor

from align.metrics.geometry.estimate import Estimate, linearise

SMALL = 128  # samples up to which permutations are compared in float64


class Ranked(NamedTuple):
    """Values with their ties. place: (m,) of each among the distinct ones. level: (m,) its mid-rank in [-.5, .5]."""

    place: Tensor
    level: Tensor

    @property
    def spread(self) -> float:
        """The variance of the levels."""
        return float(self.level.square().mean())


def dissimilarities(rows: Tensor) -> Tensor:
    """Return 1 - cosine (n, n) of rows of unit length (n, D). Equal rows have equal values, compared in float32."""
    return (1 - (rows.double() @ rows.double().T).float()).fill_diagonal_(0)  # near 0 a float32 still tells 1e-16


def rsa(x: Tensor, y: Tensor) -> Estimate:
    """Return Spearman's correlation of the n (n - 1) / 2 dissimilarities of two spaces (Kriegeskorte et al. 2008,
    doi:10.3389/neuro.06.004.2008).

    x, y: (n, n), symmetric. It is 0 where all dissimilarities of a space are the same. The values of the samples are
    linearised, with the ranks' dependence on the samples.
    """
    n = len(x)
    pairs = torch.triu_indices(n, n, 1)
    a, b = (_rank(one[pairs[0], pairs[1]]) for one in (x, y))
    if not a.spread or not b.spread:
        return Estimate(0.0, torch.zeros(n, dtype=torch.float64))
    scale = (a.spread * b.spread) ** 0.5
    value = float((a.level * b.level).mean()) / scale
    # A pair changes a covariance of ranks by its term, and by the ranks of the pairs above it.
    share = (a.level * b.level + _above(a, b.level) + _above(b, a.level)) / scale
    for one in (a, b):
        share -= value / 2 * (one.level.square() + 2 * _above(one, one.level)) / one.spread
    total = torch.zeros(n, dtype=torch.float64)
    for side in pairs:
        total.index_add_(0, side, share)
    return linearise(value, 2 * total / (n - 1))


def mantel(x: Tensor, y: Tensor, *, draws: int = 999, generator: torch.Generator) -> float:
    """Return the p-value of a correlation of two matrices that is as high, by permutations of the samples of one
    (Mantel 1967, Cancer Research 27).

    It is the share of permutations, the given order among them, whose rank correlation is at least the measured one.
    Where there are at most `draws` orders of the samples, all are counted. It is 1 where a matrix is constant. x, y:
    (n, n), symmetric.
    """
    n = len(x)
    exact = n <= SMALL  # where equal sums of other orders are no rare case
    a, b = (_rank_matrix(one).to(torch.float64 if exact else torch.float32) for one in (x, y))
    if not bool(a.any()) or not bool(b.any()):
        return 1.0
    least = float(a.flatten() @ b.flatten())
    least -= 1e-9 * abs(least) if exact else 0.0
    every = n < SMALL and math.factorial(n) <= draws
    rows, moved = torch.empty_like(a), torch.empty_like(a)
    found, counted = 0, 0
    for order in _orders(n, draws, every, generator):
        torch.index_select(a, 0, order, out=rows)
        torch.gather(rows, 1, order.expand(n, n), out=moved)
        found += int(float(moved.flatten() @ b.flatten()) >= least)
        counted += 1
    return found / counted if every else (found + 1) / (counted + 1)


def _orders(n: int, draws: int, whole: bool, generator: torch.Generator) -> Iterator[Tensor]:
    if whole:
        yield from (torch.tensor(order) for order in orders(range(n)))
    else:
        for _ in range(draws):
            yield torch.randperm(n, generator=generator)


def _rank(values: Tensor) -> Ranked:
    """Return the mid-ranks of values (m,), divided by m and centred."""
    _, place, counts = values.unique(return_inverse=True, return_counts=True)
    below = counts.cumsum(0) - counts
    return Ranked(place, ((below + counts / 2).double() / len(values) - 0.5)[place])


def _above(ranked: Ranked, other: Tensor) -> Tensor:
    """Return for each value the sum of `other` (m,) over those above it, and half of it over its equals, divided by
    m."""
    sums = torch.zeros(int(ranked.place.max()) + 1, dtype=torch.float64).index_add_(0, ranked.place, other)
    above = sums.sum() - sums.cumsum(0)
    return (above + sums / 2)[ranked.place] / len(other)


def _rank_matrix(x: Tensor) -> Tensor:
    """Return the mid-ranks of a symmetric matrix as one (n, n) in float64, with zeros on the diagonal."""
    pairs = torch.triu_indices(len(x), len(x), 1)
    out = torch.zeros(len(x), len(x), dtype=torch.float64)
    out[pairs[0], pairs[1]] = _rank(x[pairs[0], pairs[1]]).level
    return out + out.T
