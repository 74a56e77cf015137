"""The sigmoid loss of all pairs of rows, in tiles of whole rows.

A pair's loss needs no other pair. So its gradient is taken with it in the forward pass, and the logits are made once.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from align.losses.kernels.numerics import exact, refuse_second_derivative, sum_dtype
from align.losses.kernels.parts import Merge, share
from align.losses.kernels.slabs import Forbid, Slab


class SigmoidPlan(NamedTuple):
    """Arguments of the sum besides the rows: positives, weights and tiles."""

    positives: Tensor  # (C, 2), sorted by the row of a
    weights: tuple[Tensor, Tensor] | None  # a pair counts w_a[i] + w_b[j]
    weight: Tensor  # or this, where all count alike
    forbid: Forbid | None
    part: tuple[int, int]
    merge: Merge | None
    height: int


def sigmoid_sum(plan: SigmoidPlan, a: Tensor, b: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Return the 0-d weighted sum of the pairs' losses, differentiable once."""
    return _SigmoidSum.apply(plan, a, b, scale, bias)


class _SigmoidSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: SigmoidPlan, a: Tensor, b: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        wanted = any(ctx.needs_input_grad)
        of_a, of_b = (torch.zeros_like(x) if ctx.needs_input_grad[m] else None for m, x in ((1, a), (2, b)))
        of_scale, of_bias, total = (scale.new_zeros((), dtype=sum_dtype(scale)) for _ in range(3))
        first, last = share(len(a), plan.part)
        starts = list(range(first, last, plan.height))
        edges = torch.tensor([*starts, last], device=a.device)
        edges = torch.searchsorted(plan.positives[:, 0].contiguous(), edges).tolist()
        room = a.new_empty(min(plan.height, max(last - first, 1)), len(b))
        with exact(scale):
            for start, (here, there) in zip(starts, pairwise(edges), strict=True):
                stop = min(start + plan.height, last)
                rows = a[start:stop] * scale
                logits = torch.mm(rows, b.T, out=room[: stop - start]).add_(bias)  # (t, n_b)
                if plan.forbid:
                    plan.forbid(logits[None], 0, Slab(0, 1, start, stop, {}))
                i, j = plan.positives[here:there, 0] - start, plan.positives[here:there, 1]
                logits[i, j] = -logits[i, j]
                slope = logits.sigmoid()  # the slope of softplus, a pair's loss
                losses = F.logsigmoid(logits.neg_())  # minus the pairs' losses
                if plan.weights:
                    weight = plan.weights[0][start:stop, None] + plan.weights[1]
                    losses, slope = losses * weight, slope.mul_(weight)
                total -= losses.sum(dtype=total.dtype)
                if not wanted:
                    continue
                slope[i, j] = -slope[i, j]
                of_bias += slope.sum(dtype=total.dtype)
                down = slope @ b  # (t, D)
                if of_b is not None:
                    of_b.addmm_(slope.T, rows)
                of_scale += (down * a[start:stop]).sum()
                if of_a is not None:
                    of_a[start:stop] = down.mul_(scale)
            if plan.merge:
                total = plan.merge(total, "sum")
        weight = 1 if plan.weights else plan.weight
        ctx.save_for_backward(of_a, of_b, of_scale.to(scale.dtype), of_bias.to(scale.dtype), torch.as_tensor(weight))
        return (total * weight).to(scale.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        *slopes, weight = ctx.saved_tensors
        return (None, *(None if x is None else grads[0] * weight * x for x in slopes))
