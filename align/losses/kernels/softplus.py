"""The sum of log(1 + exp z) over a tile, with one logarithm for 64 numbers."""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 6
"""Factors 1 + exp(-|z|) are at most 2, so the product of 2^6 is at most 2^64."""


def softplus_sum(z: Tensor, room: Tensor, dtype: torch.dtype) -> Tensor:
    """Return Σ log(1 + exp z) of numbers (n,), 0-d of ``dtype``. room: memory (n,), which is overwritten.

    log(1 + exp z) = max(z, 0) + log(1 + e) with e = exp(-|z|), and Σ log(1 + e) is the log of a product. Two factors
    make one: (1 + x)(1 + y) - 1 = x + y + x·y. Without its 1 a factor near 1 keeps all its digits.
    """
    total = torch.clamp(z, min=0, out=room).sum().to(dtype)  # a strip's sum loses no digit that counts
    rest = torch.copysign(z, z.new_full((), -1.0), out=room).exp_()
    for _ in range(LEVELS):
        half = len(rest) // 2
        x, y, odd = rest[:half], rest[half : 2 * half], rest[2 * half :]
        if len(odd):
            total += odd.log1p().sum(dtype=dtype)
        y.addcmul_(x, y)
        rest = x.add_(y)
    return total + rest.log1p_().sum().to(dtype)
