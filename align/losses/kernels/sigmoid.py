"""The sigmoid loss of all pairs of rows, in tiles of whole rows.

A pair's loss needs no other pair. So its gradient is taken with it in the forward pass, and the logits are made once.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from align.losses.kernels.numerics import exact, refuse_second_derivative, sum_dtype
from align.losses.kernels.parts import Merge, share
from align.losses.kernels.products import matmul_float32, multiplies_halves, round_slope
from align.losses.kernels.slabs import Forbid, Slab, size_of
from align.losses.kernels.softplus import softplus_sum

ROWS = 128
TILE = 2**20  # entries of a tile, or more so that it has ROWS rows
WIDTH = 2048
STRIP = 2**17  # logits whose losses and slopes are taken at once on a CPU: 512 KiB stay in its L2 cache


class SigmoidPlan(NamedTuple):
    """Arguments of the sum besides the rows: positives, weights and tiles."""

    positives: Tensor  # (C, 2), sorted by the row of a
    weights: tuple[Tensor, Tensor] | None  # a pair counts w_a[i] + w_b[j]
    weight: Tensor  # or this, where all count alike
    forbid: Forbid | None
    part: tuple[int, int]
    merge: Merge | None
    height: int
    width: int


def sigmoid_sum(plan: SigmoidPlan, a: Tensor, b: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Return the 0-d weighted sum of the pairs' losses, differentiable once."""
    return _SigmoidSum.apply(plan, a, b, scale, bias)


class _SigmoidSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: SigmoidPlan, a: Tensor, b: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        wanted, kind = any(ctx.needs_input_grad), scale.dtype
        half = a.dtype if multiplies_halves(a) else None
        of_a, of_b = (torch.zeros_like(x, dtype=kind) if ctx.needs_input_grad[m] else None for m, x in ((1, a), (2, b)))
        of_scale, of_bias, total = (scale.new_zeros((), dtype=sum_dtype(scale)) for _ in range(3))
        first, last = share(len(a), plan.part)
        tiles = [
            (i, min(i + plan.height, last), j, min(j + plan.width, len(b)))
            for i in range(first, last, plan.height)
            for j in range(0, len(b), plan.width)
        ]
        order, edges = _place(plan, first, last, len(b), len(tiles))
        size = min(plan.height, max(last - first, 1)) * min(plan.width, len(b))
        room, spare = scale.new_empty(size), scale.new_empty(min(size, STRIP) if a.device.type == "cpu" else size)
        with exact(scale):
            for (start, stop, left, right), (here, there) in zip(tiles, pairwise(edges), strict=True):
                columns, shape = slice(left, right), (stop - start, right - left)
                rows, logits = a[start:stop], room[: math.prod(shape)].view(shape)
                if half is None:  # the scale joins the rows, which are wide
                    rows = rows.to(kind) * scale
                    matmul_float32(rows, b[columns].T, out=logits).add_(bias)  # (t, columns)
                else:
                    torch.addcmul(bias, matmul_float32(rows, b[columns].T, out=logits), scale, out=logits)
                if plan.forbid:
                    plan.forbid(logits[None], 0, Slab(0, 1, start, stop, {}, columns))
                i, j = (plan.positives[order[here:there], m] - edge for m, edge in ((0, start), (1, left)))
                logits[i, j] = -logits[i, j]
                weight = None
                if plan.weights:
                    weight = plan.weights[0][start:stop, None] + plan.weights[1][columns]
                    losses = F.softplus(logits)
                    total += losses.mul_(weight).sum(dtype=total.dtype)
                else:
                    for strip in logits.view(-1).split(len(spare)):
                        total += softplus_sum(strip, spare[: len(strip)], total.dtype)
                        strip.sigmoid_()  # the slope of softplus, a pair's loss
                if not wanted:
                    continue
                slope = logits.sigmoid_() if weight is not None else logits
                if weight is not None:
                    slope.mul_(weight)
                slope[i, j] = -slope[i, j]
                of_bias += slope.sum(dtype=total.dtype)
                rounded = round_slope(slope, half)
                down = rounded.times(b[columns])  # (t, D)
                if of_b is not None:
                    rounded.add_transposed(of_b[columns], rows)
                of_scale += (down * a[start:stop]).sum()
                if of_a is not None:
                    of_a[start:stop] += down.mul_(scale)
            if half is not None and of_b is not None:
                of_b.mul_(scale)
            if plan.merge:
                total = plan.merge(total, "sum")
        weight = 1 if plan.weights else plan.weight
        ctx.kinds = (a.dtype, b.dtype, kind, kind)
        ctx.save_for_backward(of_a, of_b, of_scale.to(kind), of_bias.to(kind), torch.as_tensor(weight))
        return (total * weight).to(kind)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        *slopes, weight = ctx.saved_tensors
        found = (None if x is None else grads[0] * weight * x for x in slopes)
        return (None, *(None if x is None else x.to(kind) for x, kind in zip(found, ctx.kinds, strict=True)))


def _place(plan: SigmoidPlan, first: int, last: int, columns: int, count: int) -> tuple[Tensor, list[int]]:
    """Return the order (C,) of the positives by tile, and the edges between tiles in it, count + 1 numbers.

    It is the one look at data, before the loop over tiles.
    """
    i, j = plan.positives.unbind(1)
    across = max(1, math.ceil(columns / plan.width))
    tile = (i - first).div(plan.height, rounding_mode="floor") * across + j // plan.width
    tile = torch.where(i < first, -1, torch.where(i < last, tile, count))  # of another part
    ordered, order = tile.sort(stable=True)
    return order, torch.searchsorted(ordered, torch.arange(count + 1, device=tile.device)).tolist()


def tile_of(columns: int, dim: int, device: torch.device) -> tuple[int, int]:
    """Return the rows and columns of a tile. A CPU's are as many as make the sums of gradients cheap on both sides."""
    if device.type == "cuda":
        return size_of(columns, dim, device)
    width = min(max(columns, 1), WIDTH)
    return max(ROWS, TILE // width), width
