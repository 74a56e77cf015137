"""Scores of predicted numbers as functions of the queries and their weights, for the bootstrap."""

from __future__ import annotations

import torch
from torch import Tensor


def r_squared(values: Tensor, weights: Tensor) -> Tensor:
    """Return R²: 1 − Σ w(y − p)² / Σ w(y − mean y)², (draws,). values: (q, 2), the true y and the prediction p."""
    y, p = values.double().unbind(dim=1)
    total = weights.sum(dim=1)
    mean = weights @ y / total
    spread = (weights * (y - mean[:, None]) ** 2).sum(dim=1)
    return 1 - weights @ (y - p) ** 2 / spread


def spearman(values: Tensor, weights: Tensor) -> Tensor:
    """Return the correlation of the ranks of y and p, (draws,), equal values having their middle rank.

    values: (q, 2), the true y and the prediction p. It is 0 where all predictions are equal.
    """
    y, p = (_ranks(column, weights) for column in values.double().unbind(dim=1))  # (draws, q)
    total = weights.sum(dim=1, keepdim=True)
    y = y - (weights * y).sum(dim=1, keepdim=True) / total
    p = p - (weights * p).sum(dim=1, keepdim=True) / total
    both = (weights * y * y).sum(dim=1) * (weights * p * p).sum(dim=1)
    return torch.where(both > 0, (weights * y * p).sum(dim=1) / both.sqrt(), 0.0)


def _ranks(x: Tensor, weights: Tensor) -> Tensor:
    """Return the middle ranks (draws, q) of x (q,), where a value of weight w stands w times."""
    _, place, count = x.unique(return_inverse=True, return_counts=True)
    here = torch.zeros(len(weights), len(count), dtype=torch.float64).index_add(1, place, weights)
    return (here.cumsum(dim=1) - here + (here + 1) / 2)[:, place]
