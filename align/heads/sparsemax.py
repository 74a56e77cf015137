"""Sparsemax: the nearest distribution to a vector, with zeros in it."""

from __future__ import annotations

import torch
from torch import Tensor


def sparsemax(x: Tensor) -> Tensor:
    """Return the distribution (..., C) nearest to ``x`` (..., C) by squared distance (Martins and Astudillo 2016,
    arXiv:1602.02068, equations 2 to 4 and algorithm 1).

    It is max(0, x - τ), with the τ at which the entries sum to 1. Its gradient is that of the paper's proposition 2:
    the incoming gradient less its mean over the entries above zero, and zero elsewhere. It costs a sort.
    """
    with torch.no_grad():
        ordered = x.sort(dim=-1, descending=True).values
        count = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
        inside = 1 + count * ordered > ordered.cumsum(-1)  # true up to the size of the support
        size = inside.sum(-1, keepdim=True).clamp(min=1)
        tau = (ordered.cumsum(-1).gather(-1, size - 1) - 1) / size
        support = x > tau
    size = support.sum(-1, keepdim=True).clamp(min=1)
    tau = (torch.where(support, x, 0).sum(-1, keepdim=True) - 1) / size  # the same number, with its gradient
    return torch.where(support, x - tau, 0)
