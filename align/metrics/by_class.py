"""Recall and precision of each class, their mean over classes, and the counts of confusions."""

from __future__ import annotations

import torch
from torch import Tensor


def mean_per_class(right: Tensor, target: Tensor) -> float:
    """Return the mean over classes of each one's accuracy (balanced accuracy), nan of no rows.

    right: (q,), 1 where the answer is right. target: (q,) int64, the class of each row. Classes without a row are left
    out.
    """
    values = torch.stack([right.double(), target.double()], dim=1)
    return float(weighted_mean_per_class(values, torch.ones(1, len(values), dtype=torch.float64)))


def weighted_mean_per_class(values: Tensor, weights: Tensor) -> Tensor:
    """Return ``mean_per_class`` under each draw's weights (draws, q), as (draws,).

    values: (q, 2), right and class. Classes that a draw does not have are left out of it.
    """
    right, target = values[:, 0].double(), values[:, 1].long()
    classes = int(target.max()) + 1 if len(target) else 0
    by_row = weights.T  # (q, draws)
    shape = (classes, len(weights))
    rows = torch.zeros(shape, dtype=torch.float64).index_add_(0, target, by_row)  # (classes, draws)
    hits = torch.zeros(shape, dtype=torch.float64).index_add_(0, target, by_row * right[:, None])
    return (hits / rows).nanmean(dim=0)


def count_confusions(answer: Tensor, target: Tensor) -> Tensor:
    """Return (k, 3) int64: class, answer and how many rows, for the pairs that there are, the most frequent first.

    answer, target: (q,) int64. Rows of a negative answer have none, and are left out.
    """
    given = answer >= 0
    pairs, n = torch.stack([target[given], answer[given]], dim=1).unique(dim=0, return_counts=True)
    order = n.argsort(descending=True, stable=True)
    return torch.cat([pairs, n[:, None]], dim=1)[order]
