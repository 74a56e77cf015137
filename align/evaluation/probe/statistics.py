"""Scores of a probe as functions of its queries and their weights, for the bootstrap."""

from __future__ import annotations

import torch
from torch import Tensor

CELLS = 1 << 22  # numbers of a block


def mean_per_class(values: Tensor, weights: Tensor) -> Tensor:
    """Return the mean over classes of the share of their queries that are right, (draws,).

    values: (q, 2), 1 where a query is right and the number of its class. weights: (draws, q). A class without a query
    in a draw does not count there.
    """
    right, (_, place) = values[:, 0].double(), values[:, 1].long().unique(return_inverse=True)
    classes = int(place.max()) + 1 if len(place) else 0
    empty = torch.zeros(len(weights), classes, dtype=torch.float64)
    hits = empty.index_add(1, place, weights * right)
    asked = empty.index_add(1, place, weights)
    return (hits / asked).nanmean(dim=1)


def average_precisions(scores: Tensor, hits: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the average precision of each class, (c,) or (draws, c), nan of a class without a hit.

    It is Σ (R_n − R_n−1)·P_n over the thresholds, where equal scores are one threshold, as scikit-learn has it.

    scores: (q, c). hits: (q, c) bool. weights: (draws, q) of the queries, or None for 1 each.
    """
    w = torch.ones(1, len(scores), dtype=torch.float64) if weights is None else weights
    out = torch.full((len(w), scores.shape[1]), torch.nan, dtype=torch.float64)
    for i in range(scores.shape[1]):
        value, order = scores[:, i].sort(descending=True)
        last = torch.cat([value[1:] != value[:-1], torch.ones(min(1, len(value)), dtype=torch.bool)])
        is_hit = hits[order, i].double()
        for at in torch.arange(len(w)).split(max(1, CELLS // max(1, len(scores)))):
            some = w[at][:, order]
            found, seen = (some * is_hit).cumsum(dim=1)[:, last], some.cumsum(dim=1)[:, last]
            steps = found.diff(dim=1, prepend=torch.zeros(len(at), 1).double())
            precision = torch.where(seen > 0, found / seen, 0.0)
            out[at, i] = (steps * precision).sum(dim=1) / found[:, -1] if len(value) else torch.nan
    return out[0] if weights is None else out


def mean_average_precision(values: Tensor, weights: Tensor) -> Tensor:
    """Return the mean over classes of their average precision, (draws,).

    values: (q, 2, c), the scores and, as 1 and 0, the hits. A class without a hit in a draw does not count there.
    """
    return average_precisions(values[:, 0], values[:, 1] > 0, weights).nanmean(dim=1)


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
