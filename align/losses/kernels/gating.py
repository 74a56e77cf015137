"""Products of a row with others that are mixed with neutral directions, by shares that depend on both."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from align.losses.kernels.multiply import multiply


def gated_products(
    candidates: Tensor, others: Sequence[Tensor], shares: Sequence[Tensor], neutral: Sequence[Tensor]
) -> Tensor:
    """Return (n, C): Σ_d c[d]·Π_o y_o[d] of each candidate c with each tuple, where y_o = (g·x_o + (1 - g)·ν_o) / |…|.

    A share g differs for each pair of a candidate and a row, and so does y_o. The sum is taken apart into 2^(M-1)
    products of matrices, one for each choice of x_o or ν_o, so no (n, C, D) tensor is made.

    candidates: (n, D). others: M-1 tensors (C, D). shares: M-1 tensors (n, C). neutral: M-1 tensors (D,).
    """
    length = torch.ones_like(shares[0])
    for x, g, v in zip(others, shares, neutral, strict=True):
        squared = g * g * (x * x).sum(1) + 2 * g * (1 - g) * (x @ v) + (1 - g) ** 2 * (v @ v)
        length = length * squared.clamp(min=1e-6).sqrt()  # a row opposite to its neutral direction may vanish
    total = torch.zeros_like(length)
    for kept in itertools.product((True, False), repeat=len(others)):
        rows = [x if keep else v[None] for keep, x, v in zip(kept, others, neutral, strict=True)]
        factor = functools.reduce(torch.mul, [g if keep else 1 - g for keep, g in zip(kept, shares, strict=True)])
        total = total + factor * multiply(candidates, functools.reduce(torch.mul, rows))
    return total / length
