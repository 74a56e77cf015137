"""Sums, log Σ exp and maxima over rows that are shared out: the value is that of all parts, the gradient this part's.

Each part holds some rows of a matrix. ``merge`` joins the parts' results, see ``align.losses.kernels.parts``. Without
one, a call is torch's operation, which can be differentiated twice. A part may have no row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from align.losses.kernels.numerics import refuse_second_derivative, sum_dtype
from align.losses.kernels.parts import Merge


def sum_over_parts(x: Tensor, merge: Merge | None) -> Tensor:
    """Return the sum of all parts' x, elementwise. The gradient to this part's x is the sum's."""
    if merge is None:
        return x
    return _Sum.apply(x, merge) if x.is_floating_point() else merge(x, "sum")


def log_sum_over_parts(logits: Tensor, dim: int, merge: Merge | None) -> Tensor:
    """Return log Σ exp over dim and over all parts. Where nothing but -inf is there, the gradient is zero."""
    return logits.logsumexp(dim) if merge is None else _LogSum.apply(logits, dim, merge)


def max_over_parts(x: Tensor, dim: int, merge: Merge | None) -> Tensor:
    """Return the maximum over dim and over all parts. As with ``amax``, equal maxima share the gradient."""
    return x.amax(dim) if merge is None else _Max.apply(x, dim, merge)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, merge: Merge) -> Tensor:
        return merge(x.to(sum_dtype(x)), "sum").to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        return grads[0], None


class _LogSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, dim: int, merge: Merge) -> Tensor:
        logs = merge(logits.logsumexp(dim).to(sum_dtype(logits)), "logsumexp").to(logits.dtype)
        ctx.dim = dim
        ctx.save_for_backward(logits, logs)
        return logs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        logits, logs = ctx.saved_tensors
        logs = torch.where(logs.isinf(), 0, logs)
        return (logits - logs.unsqueeze(ctx.dim)).exp_().mul_(grads[0].unsqueeze(ctx.dim)), None, None


class _Max(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, merge: Merge) -> Tensor:
        shape = [n for d, n in enumerate(x.shape) if d != dim % x.ndim]
        here = x.amax(dim) if x.shape[dim] else x.new_full(shape, -torch.inf)
        top = merge(here, "max")
        best = x == top.unsqueeze(dim)
        ctx.dim = dim
        ctx.save_for_backward(best, merge(best.sum(dim), "sum"))
        return top

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        best, count = ctx.saved_tensors
        return best * (grads[0] / count).unsqueeze(ctx.dim), None, None
