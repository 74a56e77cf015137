"""Anchors of two sides whose whole matrix of logits is small: a few operations on it, in place of slabs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from align.losses.kernels.numerics import exact
from align.losses.kernels.pairing import same
from align.losses.kernels.parts import Merge
from align.losses.kernels.two_way import Positives

ENTRIES = 2**16
"""The most logits that are made as one matrix: 256 rows a side. A slab of the tiles has 2^20."""


class Anchors(NamedTuple):
    """The anchors of one side, each (n,). Without a positive ``every`` and ``right`` are finite and mean nothing."""

    positives: Tensor  # how many
    every: Tensor  # log Σ exp over the candidates
    right: Tensor  # the positives' logits, read as ``Positives`` says


def is_small(a: Tensor, b: Tensor, part: tuple[int, int], merge: Merge | None, tile: int | None) -> bool:
    """Return True where the logits of two sides are made as one matrix: few, in one part, and no tile was asked for."""
    return len(a) * len(b) <= ENTRIES and part[1] == 1 and merge is None and tile is None


def dense_anchors(
    a: Tensor,
    b: Tensor,
    scale: Tensor,
    samples: Sequence[Tensor],
    groups: Sequence[Tensor] | None,
    positives: Positives,
) -> list[Anchors]:
    """Return the anchors of both sides, differentiable twice. samples, groups: two tensors (n_m,) of ids."""
    logits = _Product.apply(scale * a, b)  # (n_a, n_b)
    positive = same(*samples)
    left_out = None if groups is None else same(*groups) & ~positive
    mask, out = positive.to(logits.dtype), []
    for axis in (1, 0):
        count = mask.sum(axis)  # (n,)
        found = (count > 0).unsqueeze(axis)
        # An anchor that does not count might have no candidates at all, so it keeps those of its group.
        seen = logits if left_out is None else logits.masked_fill(left_out & found, -math.inf)
        if positives == "mean":
            right = (mask * logits).sum(axis) / count.clamp(min=1)
        else:
            right = logits.masked_fill(~positive & found, -math.inf).logsumexp(axis)
            right = right - count.clamp(min=1).log() if positives == "inside" else right
        out.append(Anchors(count, seen.logsumexp(axis), right))
    return out


class _Product(torch.autograd.Function):
    """a @ b.T, whose gradient keeps its precision where the backward pass runs inside autocast."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return a @ b.T

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        with exact(a):
            return grads[0] @ b, grads[0].T @ a
