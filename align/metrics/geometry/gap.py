"""Distance of two modalities: the gap between their means, and the mean distance of their pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from align.metrics.geometry.estimate import Estimate, linearise
from align.metrics.geometry.rows import UnitRows


def gap(x: UnitRows, y: UnitRows) -> Estimate:
    """Return the distance of the means of n pairs (Liang et al. 2022, arXiv 2203.02053, section 4.2).

    The value of a pair is its difference along the direction of the gap.
    """
    away = x.mean() - y.mean()
    length = float(away.norm())
    if not length:
        return Estimate(0.0, torch.zeros(len(x), dtype=torch.float64))
    return linearise(length, _along(x, away / length) - _along(y, away / length))


def alignment(x: UnitRows, y: UnitRows) -> Estimate:
    """Return the mean squared distance of n pairs: 0 where both are the same (Wang and Isola 2020, arXiv 2005.10242,
    section 4.1, with alpha = 2)."""
    values = torch.empty(len(x), dtype=torch.float64)
    for rows, a in x.blocks():
        values[rows] = (a - y.block(rows.start, rows.stop)).square().sum(dim=1)
    return Estimate(float(values.mean()), values)


def _along(x: UnitRows, direction: Tensor) -> Tensor:
    """Return the rows' lengths along a direction (D,), as (n,)."""
    return torch.cat([a @ direction for _, a in x.blocks()])
