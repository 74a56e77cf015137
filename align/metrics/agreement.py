"""Agreement of two orders."""

from __future__ import annotations

import math

import torch
from torch import Tensor

STEP = 1 << 22  # pairs compared at a time


def kendall(a: Tensor, b: Tensor) -> float:
    """Return Kendall's tau-b of two scorings of the same n things: 1 for one order, -1 for its reverse.

    Kendall 1945, Biometrika 33, section 3: concordant less discordant pairs, over the root of the pairs untied in `a`
    times those untied in `b`. It is nan where one of them has a single value. a, b: (n,). Takes n² steps. Raises
    ValueError for other shapes.
    """
    if a.dim() != 1 or a.shape != b.shape:
        raise ValueError(f"two scorings of the same things are (n,) each, got {tuple(a.shape)} and {tuple(b.shape)}")
    agree = untied_a = untied_b = 0
    for rows in torch.arange(len(a)).split(max(1, STEP // max(1, len(a)))):
        one = (a[rows, None] > a).int() - (a[rows, None] < a).int()
        other = (b[rows, None] > b).int() - (b[rows, None] < b).int()
        agree += int((one * other).sum())
        untied_a += int(one.abs().sum())
        untied_b += int(other.abs().sum())
    return agree / math.sqrt(untied_a * untied_b) if untied_a and untied_b else math.nan
