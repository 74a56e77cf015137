"""Groups of points: the rows of a cloud at indices."""

from __future__ import annotations

import torch
from torch import Tensor


def take(values: Tensor, index: Tensor) -> Tensor:
    """Return (n, \\*I, C), the rows of clouds (n, P, C) at indices (n, \\*I)."""
    rows = torch.arange(values.shape[0], device=values.device).view(-1, *[1] * (index.ndim - 1))
    return values[rows, index]
