"""Confidence intervals of scores: the bootstrap over samples, and Wilson's interval of a proportion."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from statistics import NormalDist

import torch
from torch import Tensor

CELLS = 1 << 22  # weights held at a time

Statistic = Callable[[Tensor, Tensor], Tensor]
"""(values (q, ...), weights (draws, q) float64) -> (draws,). The score itself is the one of weights of 1."""


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return the mean of the values (q,) under each draw's weights (draws, q), as (draws,)."""
    return (weights @ values.double()) / weights.sum(dim=1)


def bootstrap(
    values: Tensor,
    sample: Tensor,
    statistic: Statistic = weighted_mean,
    *,
    draws: int = 1000,
    level: float = 0.95,
    generator: torch.Generator,
) -> tuple[float, float]:
    """Return the percentile interval of a statistic (Efron and Tibshirani 1993, section 13.3).

    Samples are drawn with replacement, as many as there are. All queries of a sample (five captions of one image) are
    drawn together. values: (q, ...). sample: (q,) int64. Draws in which the statistic is not finite do not count. It is
    (nan, nan) where none does.
    """
    parts = [statistic(values, weights) for weights in draw_weights(sample, draws, generator)]
    found = torch.cat(parts).double() if parts else torch.zeros(0, dtype=torch.float64)
    return percentiles(found, level)


def draw_weights(sample: Tensor, draws: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield (some draws, q) float64: how many times each query's sample was drawn. sample: (q,)."""
    _, unit = sample.unique(return_inverse=True)
    for counts in draw_counts(int(unit.max()) + 1 if len(unit) else 0, draws, generator):
        yield counts[:, unit]


def draw_counts(units: int, draws: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield (some draws, units) float64: how many times each of the units was drawn."""
    step = max(1, CELLS // max(1, units))
    for start in range(0, draws if units else 0, step):
        n = min(step, draws - start)
        drawn = torch.randint(units, (n, units), generator=generator)
        yield torch.zeros(n, units, dtype=torch.float64).scatter_add_(
            1, drawn, torch.ones(1, 1).double().expand(n, units)
        )


def percentiles(found: Tensor, level: float) -> tuple[float, float]:
    """Return the interval that holds the share ``level`` of the finite numbers found (draws,), or (nan, nan)."""
    found = found[found.isfinite()]
    if not len(found):
        return math.nan, math.nan
    tail = (1 - level) / 2
    low, high = torch.quantile(found, torch.tensor([tail, 1 - tail], dtype=found.dtype)).tolist()
    return low, high


def wilson(hits: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion (Wilson 1927, doi:10.2307/2276774, equation 8).

    It is (0, 1) of no trials.

    >>> [round(x, 4) for x in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    if not n:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, spread = hits / n, z * z / n
    middle = share + spread / 2
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))
