"""Numerics of the losses: dtypes, safe sums, and a zero with gradients."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from align.losses.kernels.precision import Full, is_reduced
from align.losses.kernels.products import HALVES, wide_dtype


def exact(x: Tensor) -> AbstractContextManager:
    """Return a context without autocast, in which float32 products are full: no TF32, whatever is set outside.

    bfloat16 logits of a scale of 100 are wrong in the second digit, TF32's in the third.
    """
    off = torch.autocast(x.device.type, enabled=False)
    return off if torch.compiler.is_compiling() or not is_reduced() else Full(off)


def refuse_second_derivative() -> None:
    """Raise RuntimeError where a second derivative is asked for, in a backward pass that makes no graph of itself."""
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise RuntimeError(
            "this loss takes its gradient in tiles and cannot differentiate twice: call backward or autograd.grad "
            "without create_graph=True"
        )


def at_least_float32(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the tensors in their common dtype, float32 or wider."""
    dtype = wide_dtype(*tensors)
    return [x.to(dtype) for x in tensors]


def one_dtype(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the tensors in their common dtype: a half where all are of it, else float32 or wider."""
    dtype = functools.reduce(torch.promote_types, [x.dtype for x in tensors])
    return [*tensors] if dtype in HALVES else at_least_float32(tensors)


def sum_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype of sums over many tiles: float64, or float32 on a device without it."""
    return torch.float32 if x.device.type == "mps" else torch.float64


def nothing(*tensors: Tensor) -> Tensor:
    """Return a zero, float32 at least, whose gradient to each tensor is zeros, never None."""
    dtype = wide_dtype(*tensors)
    return torch.stack([x.reshape(-1)[:0].sum(dtype=dtype) for x in tensors]).sum()


def log_sum(logits: Tensor, dim: int = -1) -> Tensor:
    """Return log Σ exp over dim. A row of nothing but -inf gives the smallest number and zero gradients, never NaN."""
    bounds = torch.finfo(logits.dtype)
    top = logits.detach().amax(dim, keepdim=True).clamp(min=bounds.min)
    return (logits - top).exp().sum(dim).clamp(min=bounds.tiny).log() + top.squeeze(dim)
