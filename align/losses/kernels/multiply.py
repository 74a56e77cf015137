"""The product of two sets of rows as an operation of autograd, for losses that leave their gradient to it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from align.losses.kernels.numerics import exact
from align.losses.kernels.products import matmul_float32, multiplies_halves, round_slope, wide_dtype


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ bᵀ, (n, m), in float32 at least, differentiable any number of times.

    a: (n, K), b: (m, K). Halves are multiplied as by ``matmul_float32``, forward and backward, and float32 in full.
    Each gradient is summed in float32 and returned in its input's dtype.
    """
    if torch.compiler.is_compiling():
        dtype = wide_dtype(a, b)
        return a.to(dtype) @ b.to(dtype).T
    return _Multiply.apply(a, b)


class _Multiply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        with exact(a):
            return matmul_float32(a, b.T)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads  # (n, m)
        a, b = ctx.saved_tensors
        of_a = of_b = None
        with exact(a):
            if torch.is_grad_enabled():  # a second derivative is asked for
                of_a, of_b = multiply(grad, b.T).to(a.dtype), multiply(grad.T, a.T).to(b.dtype)
                return of_a, of_b
            half = a.dtype if a.dtype == b.dtype and multiplies_halves(a) else None
            if half is None and not (_in_rows(a) and _in_rows(b)):  # in autograd's order, so that bits stay
                of_a = matmul_float32(grad, b) if _in_rows(a) else matmul_float32(b.T, grad.T).T
                of_b = matmul_float32(grad.T, a) if _in_rows(b) else matmul_float32(a.T, grad).T
                return of_a.to(a.dtype), of_b.to(b.dtype)
            if ctx.needs_input_grad[0]:
                of_a = round_slope(grad, half).times(b).to(a.dtype)
            if ctx.needs_input_grad[1]:
                of_b = round_slope(grad.T, half).times(a).to(b.dtype)
        return of_a, of_b


def _in_rows(x: Tensor) -> bool:
    """Return False for the transpose of a matrix."""
    return x.stride() != (1, len(x))
