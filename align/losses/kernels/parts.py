"""Parts of a loss: the rows that each rank computes, and the function that joins the parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Merge = Callable[[Tensor, Literal["sum", "logsumexp", "max"]], Tensor]
"""Elementwise sum, log Σ exp or maximum of all parts' tensors, without gradient, as ``align.distributed.merge``."""


def share(n: int, part: tuple[int, int]) -> tuple[int, int]:
    """Return the rows start..stop of n that part (i, of) computes. Parts are as equal as can be. Raises ValueError."""
    i, of = part
    if not 0 <= i < of:
        raise ValueError(f"part is (i, n) with 0 <= i < n; got {part}")
    return n * i // of, n * (i + 1) // of


def take_share(x: Tensor, part: tuple[int, int]) -> Tensor:
    """Return this part's rows of x (n, ...), and x itself where it is the only part."""
    start, stop = share(len(x), part)
    return x if part[1] == 1 else x[start:stop]


def check_part(part: tuple[int, int], merge: Merge | None, tile: int | None = None) -> None:
    """Raise ValueError for a part that nothing merges, or a tile below one row."""
    share(1, part)
    if part[1] > 1 and merge is None:
        raise ValueError(f"part={part} is one share of several: merge= must join the partial results of all parts")
    if tile is not None and tile < 1:
        raise ValueError(f"tile is at least one row; got {tile}")


def detach_others(x: Tensor, part: tuple[int, int]) -> Tensor:
    """Return x (n, ...), whose gradient flows through this part's rows alone."""
    if part[1] == 1:
        return x
    start, stop = share(len(x), part)
    return torch.cat([x[:start].detach(), x[start:stop], x[stop:].detach()])
