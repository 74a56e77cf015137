"""Training sets of few labels: k samples a class, or a share of the samples of each class."""

from __future__ import annotations

import torch
from torch import Tensor


def rank_in_class(kind: Tensor, generator: torch.Generator) -> Tensor:
    """Return the place 0, 1, … of each sample among those of its class, in a random order.

    kind: (B,) int64, -1 of samples that do not take part, whose place means nothing.
    """
    order = torch.randperm(len(kind), generator=generator)
    order = order[kind[order].argsort(stable=True)]
    _, sizes = kind[order].unique_consecutive(return_counts=True)
    starts = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    rank = torch.empty_like(kind)
    rank[order] = torch.arange(len(kind)) - starts
    return rank


def draw_shots(kind: Tensor, rank: Tensor, shots: int) -> Tensor:
    """Return (B,) bool: the first ``shots`` samples of each class, or all of them where a class has fewer."""
    return (kind >= 0) & (rank < shots)


def draw_share(kind: Tensor, rank: Tensor, share: float) -> Tensor:
    """Return (B,) bool: the first samples of each class, a share of it, rounded, and one at least."""
    counts = torch.bincount(kind[kind >= 0], minlength=int(kind.max()) + 1 if len(kind) else 0)
    wanted = (counts.double() * share).round().clamp(min=1)
    return (kind >= 0) & (rank < wanted[kind.clamp(min=0)])
