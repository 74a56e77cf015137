"""The logits of given tuples, in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from align.losses.kernels.numerics import exact, refuse_second_derivative, sum_dtype
from align.losses.kernels.parts import share
from align.losses.kernels.slabs import ROWS, product


def tuple_logits(xs: Sequence[Tensor], scale: Tensor, tuples: Tensor, *, tile: int | None = None) -> Tensor:
    """Return the logits (C,) of the given tuples (C, M), in chunks, differentiable once."""
    return _TupleLogits.apply(tile or ROWS, tuples, scale, *xs)


class _TupleLogits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tile: int, tuples: Tensor, scale: Tensor, *xs: Tensor) -> Tensor:
        ctx.tile = tile
        ctx.save_for_backward(tuples, scale, *xs)
        with exact(scale):
            return logits_of(tuples, scale, xs, tile)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        tuples, scale, *xs = ctx.saved_tensors
        with exact(scale):
            out = [torch.zeros_like(x, dtype=scale.dtype) for x in xs]
            steep = scale.new_zeros((), dtype=sum_dtype(scale))
            add_tuple_gradients(tuples, grads[0], scale, xs, out, steep, (0, 1), ctx.tile)
        return None, None, steep.to(scale.dtype), *(x.to(like.dtype) for x, like in zip(out, xs, strict=True))


def logits_of(tuples: Tensor, scale: Tensor, xs: Sequence[Tensor], tile: int) -> Tensor:
    """Return the logits (C,) of the given tuples (C, M), ``tile`` at a time, without a graph of their own."""
    logits = [scale * product(_rows(xs, t, scale)).sum(1) for t in tuples.split(tile)]
    return torch.cat(logits) if logits else scale.new_zeros(0)


def add_tuple_gradients(
    tuples: Tensor,
    grad: Tensor,
    scale: Tensor,
    xs: Sequence[Tensor],
    out: Sequence[Tensor | None],
    steep: Tensor,
    part: tuple[int, int],
    tile: int,
) -> None:
    """Add the gradients of this part's share of the tuples' logits to ``out`` and ``steep``.

    A modality whose gradient nobody wants is None in ``out``.
    """
    start, stop = share(len(tuples), part)
    for picked, g in zip(tuples[start:stop].split(tile), grad[start:stop].split(tile), strict=True):
        rows = _rows(xs, picked, scale)
        steep += (g * product(rows).sum(1)).sum()
        for m in range(len(xs)):
            others = product([x for o, x in enumerate(rows) if o != m])
            if (of_m := out[m]) is not None:
                of_m.index_add_(0, picked[:, m], (g * scale)[:, None] * others)


def _rows(xs: Sequence[Tensor], tuples: Tensor, like: Tensor) -> list[Tensor]:
    """Return each modality's rows (C, D) of the tuples (C, M), in like's dtype."""
    return [x[tuples[:, m]].to(like.dtype) for m, x in enumerate(xs)]
