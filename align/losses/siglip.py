"""SigLIP: each pair of rows is its own yes-or-no question."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.losses.candidates import Alike
from align.losses.pairing import (
    Scale,
    at_least_float32,
    both_or_neither,
    check_embeddings,
    exact,
    nothing,
    one_number,
    per_row,
    refuse_second_derivative,
    row_ids,
    row_weights,
    sides,
    together,
)
from align.losses.parts import Merge, check_part, share, wide
from align.losses.slabs import ROWS, TILE, Forbid, Slab
from align.losses.temperature import CLIP_LIMIT, Temperature

START_SCALE = 10.0


def siglip(
    a: Tensor,
    b: Tensor,
    scale: Scale,
    bias: Scale,
    *,
    sample_a: Tensor | None = None,
    sample_b: Tensor | None = None,
    group_a: Tensor | None = None,
    group_b: Tensor | None = None,
    weight_a: Tensor | None = None,
    weight_b: Tensor | None = None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
    tile: int | None = None,
) -> Tensor:
    """The sigmoid loss of two sets of rows (Zhai et al. 2023, arXiv 2303.15343, equation 1); a 0-d tensor.

    -Σ_ij logsigmoid(±(s_ij + bias)) / ((n_a + n_b) / 2) with s_ij = scale·<a_i, b_j>, + for every pair of rows of one
    sample and - for all others: a batch without a positive still learns from its negatives.

    a: (n_a, D), b: (n_b, D). Logits are float32 at least, autocast or not.
    scale, bias: the multiplier, already exponentiated, and what is added to it.
    sample_a: (n_a,), sample_b: (n_b,) ids; row i belongs to sample i where none are given; -1 is everyone's negative.
    group_a, group_b: (n,) ids; a pair of one group (>= 0) that is no positive is left out.
    weight_a, weight_b: (n,) weights; a pair counts (w_i + w_j) / 2, and the divisor is (Σ w_a + Σ w_b) / 2.
    part, merge, tile: as in ``align.losses.tiles.log_sums``; a tile is so many rows of a.

    The gradient is taken in the forward pass, a tile at a time: 6·n_a·n_b·D operations, extra memory that grows with
    (n_a + n_b)·D.

    Without a pair the loss is zero and so are all gradients. Raises ValueError for shapes that do not fit.
    """
    check_embeddings([a, b])
    both_or_neither(group_a, group_b, "group")
    check_part(part, merge, tile)
    with exact(a):
        a, b = at_least_float32([a, b])
        scale, bias = one_number(scale, a), one_number(bias, a, "bias")
        samples = [row_ids(sample_a, a, "sample_a"), row_ids(sample_b, b, "sample_b")]
        w_a, w_b = row_weights(weight_a, a, "weight_a"), row_weights(weight_b, b, "weight_b")
        forbid = None
        if group_a is not None and group_b is not None:
            forbid = Alike(samples, [per_row(group_a, a, "group_a"), per_row(group_b, b, "group_b")])
        if not len(a) or not len(b):
            return nothing(a, b, scale, bias)
        total = w_a.sum() + w_b.sum()
        total = torch.where(total == 0, 1, total)
        weights = None if weight_a is None and weight_b is None else (w_a / total, w_b / total)
        height = max(ROWS, TILE // len(b)) if tile is None else tile
        how = _How(together(samples), weights, 2 / total, forbid, part, merge, height)
        return _Sigmoid.apply(how, a, b, scale, bias)


class _How(NamedTuple):
    positives: Tensor  # (C, 2), sorted by the row of a
    weights: tuple[Tensor, Tensor] | None  # a pair counts w_a[i] + w_b[j]
    weight: Tensor  # or this, where all count alike
    forbid: Forbid | None
    part: tuple[int, int]
    merge: Merge | None
    height: int


class _Sigmoid(torch.autograd.Function):
    """A pair's loss needs no other pair: its gradient is taken with it, and the logits are made once."""

    @staticmethod
    def forward(ctx: Any, how: _How, a: Tensor, b: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        wanted = any(ctx.needs_input_grad)
        of_a, of_b = torch.zeros_like(a), torch.zeros_like(b)
        of_scale, of_bias, total = (scale.new_zeros((), dtype=wide(scale)) for _ in range(3))
        first, last = share(len(a), how.part)
        starts = list(range(first, last, how.height))
        edges = torch.tensor([*starts, last], device=a.device)
        edges = torch.searchsorted(how.positives[:, 0].contiguous(), edges).tolist()
        room = a.new_empty(min(how.height, max(last - first, 1)), len(b))
        with exact(scale):
            for start, (here, there) in zip(starts, pairwise(edges), strict=True):
                stop = min(start + how.height, last)
                rows = a[start:stop] * scale
                logits = torch.mm(rows, b.T, out=room[: stop - start]).add_(bias)  # (t, n_b)
                if how.forbid:
                    how.forbid(logits[None], 0, Slab(0, 1, start, stop, {}))
                i, j = how.positives[here:there, 0] - start, how.positives[here:there, 1]
                logits[i, j] = -logits[i, j]
                slope = logits.sigmoid()  # of softplus, the loss of a pair
                losses = F.logsigmoid(logits.neg_())  # minus it
                if how.weights:
                    weight = how.weights[0][start:stop, None] + how.weights[1]
                    losses, slope = losses * weight, slope.mul_(weight)
                total -= losses.sum(dtype=total.dtype)
                if not wanted:
                    continue
                slope[i, j] = -slope[i, j]
                of_bias += slope.sum(dtype=total.dtype)
                down = slope @ b  # (t, D)
                of_b.addmm_(slope.T, rows)
                of_scale += (down * a[start:stop]).sum()
                of_a[start:stop] = down.mul_(scale)
            if how.merge:
                total = how.merge(total, "sum")
        weight = 1 if how.weights else how.weight
        ctx.save_for_backward(of_a, of_b, of_scale.to(scale.dtype), of_bias.to(scale.dtype), torch.as_tensor(weight))
        return (total * weight).to(scale.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        *slopes, weight = ctx.saved_tensors
        return (None, *(grads[0] * weight * x for x in slopes))


@final
class SigLIP(Temperature):
    """``siglip`` with a learned scale and a learned bias of shape (1,). The scale starts at the paper's 10 (arXiv
    2303.15343, section 3.2), the bias at -log(N - 1) for N samples in a batch: of a row's N pairs one is right, and so
    it is the first guess for pairs that say nothing yet. At the paper's batch of 32,768 that is -10.4; it took -10.

    start_scale, start_bias, max_scale, learn_scale: None takes these, and the limit 100.
    """

    kind = "pairwise"
    takes_unpaired = True
    in_parts = True

    def __init__(
        self,
        start_scale: float | None = None,
        start_bias: float | None = None,
        max_scale: float | None = None,
        learn_scale: bool = True,
    ):
        super().__init__(start_scale, max_scale, learn_scale)
        self.start_bias = start_bias
        self.bias = nn.Parameter(torch.zeros(1))
        self.start(0, 2, 32768)

    @torch.no_grad()
    def start(self, dim: int, modalities: int, batch: int) -> None:
        """The paper's scale, whatever D is, and the bias from N = batch."""
        self._set(START_SCALE, CLIP_LIMIT)
        assert self.bias is not None  # made above
        self.bias.fill_(-math.log(max(batch - 1, 1)) if self.start_bias is None else self.start_bias)

    def forward(
        self,
        embeddings: Sequence[Tensor],
        samples: Sequence[Tensor],
        *,
        groups: Sequence[Tensor] | None = None,
        weights: Sequence[Tensor] | None = None,
        generator: torch.Generator | None = None,
        part: tuple[int, int] = (0, 1),
        merge: Merge | None = None,
    ) -> Tensor:
        """The 0-d loss of two sets of rows: embeddings (n_m, D), samples (n_m,), groups and weights likewise."""
        a, b = embeddings
        assert self.bias is not None  # made above
        return siglip(
            a,
            b,
            self.scale,
            self.bias,
            part=part,
            merge=merge,
            **sides(samples, groups, weights),
        )
