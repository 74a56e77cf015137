"""One set of anchors against one set of candidates: the sum of each anchor's log Σ exp, in blocks of whole rows.

A block of anchors sees all its candidates at once, and nothing later changes its softmax. So the gradient is taken in
the forward pass, and the logits are made once. 6·n·K·D operations, memory for one block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from align.losses.kernels.numerics import exact, refuse_second_derivative, sum_dtype
from align.losses.kernels.parts import Merge, share
from align.losses.kernels.products import multiplies_halves, multiply_parts, round_slope, split_halves
from align.losses.kernels.slabs import ROWS, TILE

ForbidRows = Callable[[Tensor, int], None]
"""Rule that sets to -inf, in place, the logits (t, K) of candidates that anchors start..start+t do not meet."""


def row_log_sums(
    anchors: Tensor,
    candidates: Tensor,
    scale: Tensor,
    beside: Tensor,
    weight: Tensor,
    forbid: ForbidRows | None = None,
    *,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
    tile: int | None = None,
) -> Tensor:
    """Return Σ_i weight_i·log( exp beside_i + Σ_k exp(scale·<anchor_i, candidate_k>) ), 0-d, differentiable once.

    anchors: (n, D), candidates: (K, D), scale: 0-d, all of one dtype, float32 at least. Anchors may be halves beside
        them. bfloat16 ones are multiplied as halves where the device can, by candidates in three parts.
    beside: (n,) a logit that each anchor has beside its candidates'.
    weight: (n,), constant. An anchor of weight 0 is not looked at.
    part, merge, tile: as in ``align.losses.kernels.tiles.log_sums``. A tile is this many anchors.
    """
    height = max(ROWS, TILE // max(len(candidates), 1)) if tile is None else tile
    return _RowLogSums.apply((forbid, part, merge, height), anchors, candidates, scale, beside, weight)


class _RowLogSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, how: Any, anchors: Tensor, candidates: Tensor, scale: Tensor, beside: Tensor, weight: Tensor
    ) -> Tensor:
        forbid, part, merge, height = how
        wanted, kind = any(ctx.needs_input_grad), scale.dtype
        half = anchors.dtype if multiplies_halves(anchors) and anchors.dtype == torch.bfloat16 else None
        parts = [candidates] if half is None else split_halves(candidates, half, 3)
        of_anchors, of_candidates = (torch.zeros_like(x, dtype=kind) for x in (anchors, candidates))
        of_beside, of_scale = torch.zeros_like(beside), scale.new_zeros((), dtype=sum_dtype(scale))
        total = scale.new_zeros((), dtype=sum_dtype(scale))
        first, last = share(len(anchors), part)
        room = scale.new_empty(min(height, max(last - first, 1)), len(candidates))
        with exact(scale):
            for start in range(first, last, height):
                stop = min(start + height, last)
                rows, w, other = anchors[start:stop], weight[start:stop], beside[start:stop]
                if half is None:
                    rows = rows.to(kind) * scale
                logits = multiply_parts([rows], parts, room[: stop - start])  # (t, K)
                if half is not None:
                    logits.mul_(scale)
                if forbid:
                    forbid(logits, start)
                top = torch.maximum(logits.amax(1), other)
                top = torch.where(top.isinf(), 0, top)
                exps = logits.sub_(top[:, None]).exp_()
                extra = (other - top).exp()
                sums = exps.sum(1) + extra
                counts = w != 0
                total += torch.where(counts, w * (sums.log() + top), 0).sum(dtype=total.dtype)
                if not wanted:
                    continue
                factor = torch.where(counts, w / sums, 0)
                of_beside[start:stop] = factor * extra
                slope = round_slope(exps.mul_(factor[:, None]), half)
                down = slope.times(candidates)  # (t, D)
                slope.add_transposed(of_candidates, rows)
                of_scale += (down * anchors[start:stop]).sum()
                of_anchors[start:stop] = down.mul_(scale)
            if half is not None:
                of_candidates.mul_(scale)
            if merge:
                total = merge(total, "sum")
        ctx.kinds = (anchors.dtype, candidates.dtype, kind, beside.dtype)
        ctx.save_for_backward(of_anchors, of_candidates, of_scale.to(kind), of_beside)
        return total.to(scale.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        (grad,) = grads
        found = ((grad * x).to(kind) for x, kind in zip(ctx.saved_tensors, ctx.kinds, strict=True))
        return (None, *found, None)
