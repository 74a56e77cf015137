"""Comparisons of all pairs of rows by the similarities of their tokens, in tiles that the backward pass makes again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from align.losses.kernels.numerics import exact, refuse_second_derivative
from align.losses.kernels.products import matmul_float32, multiplies_halves, round_slope, wide_dtype

TILE = 2**22
"""Similarities of tokens in a tile, unless ``chunk`` says otherwise: 16 MiB in float32."""


class Comparison(ABC):
    """Abstract: K numbers for a pair of rows, of the similarities of their tokens.

    A tile has sim (p, L_a, q, L_b), mask_a (p, L_a), mask_b (q, L_b), true where a token is real. Every row has a real
    token. A comparison may write into ``sim``.
    """

    outputs: int  # K

    @abstractmethod
    def value(self, sim: Tensor, mask_a: Tensor, mask_b: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return (K, p, q) finite numbers, and a tensor to keep for ``slope``, or None."""

    @abstractmethod
    def slope(self, sim: Tensor, mask_a: Tensor, mask_b: Tensor, grad: Tensor, kept: Tensor | None) -> Tensor:
        """Return the derivative of Σ grad · value by sim, shaped like it and zero where a token is not real.

        grad: (K, p, q). kept: the tensor that ``value`` gave for this tile.
        """


def compare(
    tokens_a: Tensor, tokens_b: Tensor, mask_a: Tensor, mask_b: Tensor, comparison: Comparison, chunk: int | None
) -> Tensor:
    """Return the comparison of all pairs of rows, (K, n_a, n_b), differentiable once.

    A row without a real token gets finite numbers that mean nothing.

    tokens_a: (n_a, L_a, D), tokens_b: (n_b, L_b, D), masks (n, L). Halves are multiplied as by ``matmul_float32``.
    chunk: pairs of rows in a tile. None: as many as have ``TILE`` similarities.

    Extra memory: a few tiles of chunk·L_a·L_b, gradients as large as the tokens, and the tensors that the comparison
    keeps. The similarities are computed again in the backward pass, four products in all.
    """
    alive = [mask | ~mask.any(1, keepdim=True) for mask in (mask_a, mask_b)]  # a row without a real token reads all
    return _Compare.apply(tokens_a, tokens_b, *alive, comparison, chunk)


def check_tokens(a: Tensor, b: Tensor, mask_a: Tensor | None, mask_b: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the two masks, (n, L) bool, where every token is real by default. Raises ValueError for wrong shapes."""
    shapes = f"{tuple(a.shape)}, {tuple(b.shape)}"
    if any(x.ndim != 3 or not x.is_floating_point() for x in (a, b)) or a.shape[2] != b.shape[2]:
        raise ValueError(f"tokens are floating tensors (n, L, D) of one D; got {shapes} of {a.dtype}, {b.dtype}")
    if not a.shape[1] or not b.shape[1]:
        raise ValueError(f"a row has room for one token at least; got {shapes}")
    masks = []
    for name, x, mask in (("mask_a", a, mask_a), ("mask_b", b, mask_b)):
        mask = x.new_ones(x.shape[:2], dtype=torch.bool) if mask is None else mask.to(x.device)
        if mask.shape != x.shape[:2] or mask.dtype != torch.bool:
            said = f"{name} is {tuple(mask.shape)} of {mask.dtype}"
            raise ValueError(f"{said}; its tokens need {tuple(x.shape[:2])} of torch.bool, true = real")
        masks.append(mask)
    return masks[0], masks[1]


def check_chunk(chunk: int | None) -> None:
    """Raise ValueError for a tile of no pairs."""
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk, the pairs of rows in a tile, is at least 1; got {chunk}")


def _tiles(a: Tensor, b: Tensor, chunk: int | None) -> Iterator[tuple[slice, slice]]:
    """Yield rows of a and rows of b, as square as they go, at most ``chunk`` pairs."""
    pairs = chunk or max(1, TILE // (a.shape[1] * b.shape[1]))
    p = min(len(a), max(int(pairs**0.5), pairs // max(1, len(b)), 1))
    q = max(1, pairs // max(1, p))
    for i in range(0, len(a), max(1, p)):
        for j in range(0, len(b), q):
            yield slice(i, i + p), slice(j, j + q)


def _similarities(x: Tensor, y: Tensor) -> Tensor:
    """Return the products of (p, L_a, D) and (q, L_b, D) as (p, L_a, q, L_b), in float32 at least."""
    return matmul_float32(x.flatten(0, 1), y.flatten(0, 1).T).view(*x.shape[:2], *y.shape[:2])


class _Compare(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, mask_a: Tensor, mask_b: Tensor, comparison: Comparison, chunk: int | None
    ) -> Tensor:
        out = a.new_zeros(comparison.outputs, len(a), len(b), dtype=wide_dtype(a))
        ctx.kept = []
        with exact(a):
            for i, j in _tiles(a, b, chunk):
                out[:, i, j], kept = comparison.value(_similarities(a[i], b[j]), mask_a[i], mask_b[j])
                ctx.kept.append(kept)
        ctx.save_for_backward(a, b, mask_a, mask_b)
        ctx.comparison, ctx.chunk = comparison, chunk
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        (grad,) = grads  # (K, n_a, n_b)
        a, b, mask_a, mask_b = ctx.saved_tensors
        half = a.dtype if multiplies_halves(a) else None
        grad_a, grad_b = (torch.zeros_like(x, dtype=wide_dtype(x)) for x in (a, b))
        with exact(a):
            for (i, j), kept in zip(_tiles(a, b, ctx.chunk), ctx.kept, strict=True):
                sim = _similarities(a[i], b[j])
                slope = ctx.comparison.slope(sim, mask_a[i], mask_b[j], grad[:, i, j], kept)
                slope = round_slope(slope.flatten(2, 3).flatten(0, 1), half)  # (p · L_a, q · L_b)
                grad_a[i] += slope.times(b[j].flatten(0, 1)).view_as(a[i])
                grad_b[j] += slope.transpose().times(a[i].flatten(0, 1)).view_as(b[j])
        return grad_a.to(a.dtype), grad_b.to(b.dtype), None, None, None, None
