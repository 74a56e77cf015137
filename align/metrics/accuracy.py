"""Accuracy of scores over classes, and accuracy among the best k."""

from __future__ import annotations

import torch
from torch import Tensor

from align.metrics.recall import check_k, ranks, recall_at


def accuracy(scores: Tensor, target: Tensor) -> float:
    """Return the share of rows whose right class has the strictly highest score. scores: (q, c), target: (q,) int64."""
    return accuracy_at(scores, target, 1)


def accuracy_at(scores: Tensor, target: Tensor, k: int) -> float:
    """Return the share of rows whose right class is among the best k.

    scores: (q, c), target: (q,) int64 in 0..c-1. Raises ValueError for shapes, targets and a k that do not fit.
    """
    if scores.ndim != 2 or target.shape != scores.shape[:1]:
        raise ValueError(
            f"accuracy takes scores (q, c) and targets (q,); got {tuple(scores.shape)} and {tuple(target.shape)}"
        )
    if len(target) and (int(target.min()) < 0 or int(target.max()) >= scores.shape[1]):
        raise ValueError(f"targets are 0..{scores.shape[1] - 1}; got {int(target.min())}..{int(target.max())}")
    check_k(k)
    hits = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device).scatter_(1, target[:, None], True)
    return recall_at(ranks(scores, hits), k)
