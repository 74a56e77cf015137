"""Linear separability: how often a linear classifier tells two modalities apart."""

from __future__ import annotations

import torch
from torch import Tensor

from align.metrics.geometry.rows import UnitRows
from align.metrics.geometry.spectrum import Moments, moments

SHRINKAGE = 0.01  # share of the mean variance in the covariance
SAME = 1e-6  # distance of means below which two modalities have no direction between them


def separability(x: UnitRows, y: UnitRows, *, folds: int = 5, generator: torch.Generator) -> Tensor:
    """Return (n, 2) float64, 1 where a pair's row of x, and its row of y, is assigned to its modality.

    The mean is the accuracy, near .5 where no line lies between the modalities. Each row is judged by a discriminant
    (Fisher 1936, doi:10.1111/j.1469-1809.1936.tb02137.x) that was fitted on the other folds. Both rows of a pair lie in
    one fold. The covariance is the pooled one within the modalities, shrunk towards its mean variance by 1 %. A row on
    the line itself is wrong: a tie never helps.
    """
    n = len(x)
    order = torch.randperm(n, generator=generator)
    right = torch.zeros(n, 2, dtype=torch.float64)
    whole = moments(x), moments(y)
    for fold in order.tensor_split(min(folds, n)):
        left = [UnitRows(one.values, fold if one.index is None else one.index[fold]) for one in (x, y)]
        rest = [_subtract(total, moments(part)) for total, part in zip(whole, left, strict=True)]
        direction, middle = _discriminant(*rest)
        for side, part in enumerate(left):
            scores = torch.cat([a @ direction for _, a in part.blocks()]) - middle
            right[fold, side] = (scores > 0 if side == 0 else scores < 0).double()
    return right


def _subtract(whole: Moments, part: Moments) -> Moments:
    return Moments(whole.n - part.n, whole.total - part.total, whole.gram - part.gram)


def _discriminant(x: Moments, y: Moments) -> tuple[Tensor, float]:
    """Return the direction (D,) in which x lies above y, and the middle between them. It is zeros for equal means."""
    a, b = x.total / x.n, y.total / y.n
    within = (x.gram - x.n * a.outer(a) + y.gram - y.n * b.outer(b)) / (x.n + y.n)
    if float((a - b).norm()) <= SAME:
        return torch.zeros_like(a), 0.0
    ridge = max(SHRINKAGE * float(within.trace()) / len(a), 1e-12)
    within = (1 - SHRINKAGE) * within
    within.diagonal().add_(ridge)
    direction = torch.linalg.solve(within, a - b)
    return direction, float(direction @ (a + b)) / 2
