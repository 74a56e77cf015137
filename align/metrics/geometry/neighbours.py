"""Nearest rows of a modality, and the uniformity of its rows, from one pass over all pairs of rows."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from align.metrics.geometry.estimate import Estimate, linearise
from align.metrics.geometry.rows import UnitRows

SIDE = 2048  # rows and columns of a block of cosines in float32: 16 MiB
SPARE = 8  # candidates beyond the k + 1 nearest, which float32 may have put in a wrong order


class Neighbourhood(NamedTuple):
    """Neighbours of n rows among themselves.

    nearest: (n, k) int64, in no order, -1 where a tie leaves no neighbour. potential: (n,) float64, the mean of
    exp(-2 d^2) over the other rows, d the distance.
    """

    nearest: Tensor
    potential: Tensor


def neighbourhood(x: UnitRows, k: int) -> Neighbourhood:
    """Return the k nearest rows of each by cosine, and its potential.

    Ties never help: a row is one of the k nearest where at most k rows, itself among them, are as near. The nearest of
    constant rows are none. Every pair is computed one time, in float32. The order of the candidates is that of their
    cosines in float64, compared in float32, so that equal rows tie. Raises ValueError for k above n - 2, where every
    row would be a neighbour.
    """
    n = len(x)
    if k > n - 2:
        raise ValueError(f"{k} neighbours need {k + 2} rows; got {n}")
    width = min(n - 1, k + 1 + SPARE) if k else 0
    best = torch.full((n, width), -math.inf)
    at = torch.zeros(n, width, dtype=torch.int64)
    potential = torch.zeros(n, dtype=torch.float64)
    for i in range(0, n, SIDE):
        rows = slice(i, min(n, i + SIDE))
        queries = x.block(rows.start, rows.stop, torch.float32)
        for j in range(i, n, SIDE):
            columns = slice(j, min(n, j + SIDE))
            cosines = queries @ x.block(columns.start, columns.stop, torch.float32).T
            if i == j:
                cosines.fill_diagonal_(-math.inf)  # its potential is exp(-inf), which is 0
            _merge(best[rows], at[rows], cosines, j)
            if i != j:
                _merge(best[columns], at[columns], cosines.T, i)
            cosines.sub_(1).mul_(4).exp_()  # d^2 = 2 - 2 cos
            potential[rows] += cosines.sum(dim=1)
            if i != j:
                potential[columns] += cosines.sum(dim=0)
    return Neighbourhood(_choose(x, at, k), potential / (n - 1))


def uniformity(potential: Tensor) -> Estimate:
    """Return the logarithm of the mean of exp(-2 d^2) over all pairs of rows (Wang and Isola 2020, arXiv 2005.10242,
    section 4.1, with t = 2): 0 for constant rows, near -4 for rows spread over a sphere of many dimensions.

    potential: (n,) of ``neighbourhood``. A row is in 2 / n of the pairs, hence the factor of its influence.
    """
    mean = potential.mean()
    return linearise(float(mean.log()), 2 * (potential / mean - 1))


def overlap(x: Tensor, y: Tensor) -> Tensor:
    """Return the share of neighbours that are the same in two spaces, of each row (n,) in float64.

    Its mean is mutual kNN (Huh et al. 2024, arXiv 2405.07987, equation 11). x, y: (n, k) of ``neighbourhood``. Of
    unrelated spaces it is k / (n - 1).
    """
    shared = (x[:, :, None] == y[:, None, :]) & (x >= 0)[:, :, None]
    return shared.any(dim=2).sum(dim=1).double() / max(1, x.shape[1])


def _merge(best: Tensor, at: Tensor, cosines: Tensor, start: int) -> None:
    """Put the columns with the highest cosines (b, c), numbered from `start`, among the best (b, width)."""
    width = best.shape[1]
    if not width:
        return
    found = cosines.topk(min(width, cosines.shape[1]), dim=1)
    values = torch.cat([best, found.values], dim=1)
    places = torch.cat([at, found.indices + start], dim=1)
    kept = values.topk(width, dim=1)
    best.copy_(kept.values)
    at.copy_(places.gather(1, kept.indices))


def _choose(x: UnitRows, at: Tensor, k: int) -> Tensor:
    """Return the k nearest of the candidates (n, width) by their exact cosines, -1 for those that tie with the next."""
    nearest = torch.full((len(x), k), -1)
    if not k:
        return nearest
    step = max(1, SIDE * 1024 // (at.shape[1] * x.dim))
    for start in range(0, len(x), step):
        rows = slice(start, min(len(x), start + step))
        others = x.take(at[rows].flatten()).view(-1, at.shape[1], x.dim)
        cosines = (others * x.block(rows.start, rows.stop)[:, None]).sum(dim=2).float()  # (rows, width)
        values, order = cosines.sort(dim=1, descending=True)
        strict = values[:, :k] > values[:, k : k + 1]
        nearest[rows] = torch.where(strict, at[rows].gather(1, order[:, :k]), -1)
    return nearest
