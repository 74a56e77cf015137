"""log Σ exp of two sides whose matrix of logits is small: the sums of one slab, without the machinery of tiles."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from align.losses.kernels.numerics import exact, sum_dtype
from align.losses.kernels.parts import Merge
from align.losses.kernels.products import BLOCK, HALVES
from align.losses.kernels.slabs import SAFE, height_of
from align.losses.kernels.tuple_logits import add_tuple_gradients, logits_of

ENTRIES = 2**16
"""The most logits that are made as one matrix: 256 rows a side. A slab of the tiles has 2^20."""


def is_small(a: Tensor, b: Tensor, part: tuple[int, int], merge: Merge | None, tile: int | None) -> bool:
    """Return True where the logits of two sides are made as one matrix: few, in one part, and no tile was asked for.

    Halves are widened whole there, so they have ``BLOCK`` rows a side at most.
    """
    if max(len(a), len(b)) > BLOCK and a.dtype in HALVES:
        return False
    return len(a) * len(b) <= ENTRIES and part[1] == 1 and merge is None and tile is None


def dense_log_sums(
    a: Tensor, b: Tensor, scale: Tensor, pairs: Tensor, left_out: Tensor | None
) -> tuple[list[Tensor], Tensor]:
    """Return log Σ exp of each row, (n_a,) and (n_b,), and the logits (C,) of the pairs (C, 2), differentiable twice.

    Value and gradient are those of ``log_sums`` to the bit, since the same sums are made in the same order.

    a, b: (n, D) of one dtype. Halves are widened: so few logits are no work for any device.
    left_out: (n_a, n_b) bool, logits that no row sees. A row that sees none has the sum 0, which means nothing.
    """
    if torch.compiler.is_compiling():
        return _plain(a, b, scale, pairs, left_out)
    of_a, of_b, given = _LogSums.apply(a, b, scale, pairs, left_out)
    return [of_a, of_b], given


class _LogSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, scale: Tensor, pairs: Tensor, left_out: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        halves, (a, b) = (a, b), (x.to(scale.dtype) for x in (a, b))
        ctx.tile = height_of(min(len(a), len(b)), a.shape[1])
        ctx.swapped = len(b) > len(a)  # the longer side has the rows of the matrix, as in a slab
        u, v = (b, a) if ctx.swapped else (a, b)
        with exact(scale):
            bound = torch.stack([torch.linalg.vector_norm(x, dim=1).amax() for x in (a, b)]).prod()
            ctx.shifted = not float(scale.abs() * bound) + math.log(len(a) * len(b)) <= SAFE
            logits = (scale * u) @ v.T  # (n_u, n_v)
            if left_out is not None:
                logits.masked_fill_(left_out.T if ctx.swapped else left_out, -math.inf)
            logs, wide = [], sum_dtype(scale)
            if not ctx.shifted:
                logits.exp_()
            for axis in (1, 0):
                if ctx.shifted:
                    top = logits.amax(axis)
                    top = torch.where(top.isinf(), 0, top)
                    sums = (logits - top.unsqueeze(axis)).exp_().sum(axis).to(wide)
                    logs.append(sums.log() + top)
                else:
                    logs.append(logits.sum(axis).to(wide).log())
            given = logits_of(pairs, scale, [a, b], ctx.tile)
        if left_out is not None:
            logs = [torch.where(x.isinf(), 0, x) for x in logs]
        ctx.save_for_backward(*halves, scale, pairs, left_out, *logs)
        of_u, of_v = (x.to(scale.dtype) for x in logs)
        return (of_v, of_u, given) if ctx.swapped else (of_u, of_v, given)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, pairs, left_out, *logs = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is asked for
            wanted = [x for x in (a, b, scale) if x.requires_grad]
            with exact(scale):
                sums, given = _plain(a, b, scale, pairs, left_out)
                found = iter(torch.autograd.grad([*sums, given], wanted, grads, create_graph=True, allow_unused=True))
            return (*(next(found) if x.requires_grad else None for x in (a, b, scale)), None, None)
        kind, (a, b) = a.dtype, (x.to(scale.dtype) for x in (a, b))
        u, v = (b, a) if ctx.swapped else (a, b)
        g_u, g_v = (grads[1], grads[0]) if ctx.swapped else grads[:2]
        with exact(scale):
            rows = scale * u
            slope = rows @ v.T
            if left_out is not None:
                slope.masked_fill_(left_out.T if ctx.swapped else left_out, -math.inf)
            # A row that does not count may see no logit at all.
            logs = [torch.where(g == 0, math.inf, x) for g, x in zip((g_u, g_v), logs, strict=True)]
            if ctx.shifted:
                logits, slope = slope, torch.zeros_like(slope)
                turns = [*zip((1, 0), (g_u, g_v), logs, strict=True)]
                for axis, g, x in reversed(turns) if ctx.swapped else turns:  # the first side's first
                    each = (logits - x.unsqueeze(axis).to(g.dtype)).exp_()
                    slope.addcmul_(each, g.unsqueeze(axis).expand_as(each))
            else:
                factors = [(g * (-x).exp()).to(g.dtype) for g, x in zip((g_u, g_v), logs, strict=True)]
                slope.exp_().mul_(factors[0][:, None] + factors[1])
            down = slope @ v  # (n_u, D)
            steep = scale.new_zeros((), dtype=sum_dtype(scale))
            steep += (down * u).sum(0, keepdim=True).sum()
            out = [scale * down, slope.T @ rows]
            if ctx.swapped:
                out.reverse()
            add_tuple_gradients(pairs, grads[2], scale, [a, b], out, steep, (0, 1), ctx.tile)
        return (*(x.to(kind) for x in out), steep.to(scale.dtype), None, None)


def _plain(a: Tensor, b: Tensor, scale: Tensor, pairs: Tensor, left_out: Tensor | None) -> tuple[list[Tensor], Tensor]:
    """Return what ``dense_log_sums`` does, as operations that autograd and a compiler know."""
    a, b = a.to(scale.dtype), b.to(scale.dtype)
    logits, sums = (scale * a) @ b.T, []
    for axis in (1, 0):
        seen = logits
        if left_out is not None:  # a row that sees nothing has a gradient of NaN, so it keeps all
            nothing = left_out.all(axis, keepdim=True)
            seen = logits.masked_fill(left_out & ~nothing, -math.inf)
        sums.append(seen.logsumexp(axis))
    return sums, scale * (a[pairs[:, 0]] * b[pairs[:, 1]]).sum(1)
