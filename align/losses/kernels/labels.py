"""Labels of rows, as places of their classes."""

from __future__ import annotations

import torch
from torch import Tensor


def check_labels(labels: Tensor, n: int, count: int) -> None:
    """Raise ValueError unless labels are (n, K) places below ``count``, or -1."""
    if labels.ndim != 2 or len(labels) != n:
        raise ValueError(f"labels are (n, K), with n = {n}; got the shape {tuple(labels.shape)}")
    if labels.numel() and int(labels.max()) >= count:
        raise ValueError(f"a label is a class 0 to {count - 1}, or -1; got {int(labels.max())}")


def as_hot(labels: Tensor, count: int) -> Tensor:
    """Return (n, count) bool, true at the classes of each row, of places (n, K). -1 is no class."""
    hot = torch.zeros(len(labels), count + 1, dtype=torch.bool, device=labels.device)
    return hot.scatter(1, torch.where(labels >= 0, labels, count), True)[:, :count]
