"""Matrix products of halves, bfloat16 and float16, with float32 sums and results.

A GPU multiplies them as they are. A CPU has no such operator, so there a block of rows at a time is widened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 1024
"""Rows or columns that are widened at once."""

HALVES = (torch.bfloat16, torch.float16)

LARGEST = 4096.0
"""Size of the largest slope after rounding to float16, whose range is 6e-8 to 65504."""


def wide_dtype(*tensors: Tensor) -> torch.dtype:
    """Return the dtype of the results: float32, or float64 where one of the tensors has it."""
    dtype = torch.float32
    for x in tensors:
        dtype = torch.promote_types(dtype, x.dtype)
    return dtype


def has_half_products(device: torch.device) -> bool:
    """Return True where the device multiplies halves with float32 sums and results: CUDA, not ROCm."""
    return device.type == "cuda" and torch.version.hip is None


def multiplies_halves(x: Tensor) -> bool:
    """Return True for halves on a device that multiplies them."""
    return x.dtype in HALVES and has_half_products(x.device)


def matmul_float32(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """Return a @ b, (n, m), in float32 at least. a: (n, K), b: (K, m). out: memory for the result.

    Two halves of one dtype go to the GPU's product. Where only one is a half, or there is no GPU, halves are widened.
    """
    if a.dtype == b.dtype and a.dtype not in HALVES:
        return torch.mm(a, b, out=out)
    if a.dtype == b.dtype and multiplies_halves(a):
        return torch.mm(a, b, out_dtype=torch.float32, out=out)
    if out is None:
        out = a.new_empty(len(a), b.shape[1], dtype=wide_dtype(a, b))
    return _add_widened(out, a, b, keep=0)


def add_matmul_(total: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Add a @ b to total (n, m), float32 at least, in place. a: (n, K), b: (K, m)."""
    if a.dtype == b.dtype and a.dtype not in HALVES:
        return total.addmm_(a, b)
    if a.dtype == b.dtype and multiplies_halves(a):
        batch = total[None]  # one object as input and output, so that nothing is copied
        torch.baddbmm(batch, a[None], b[None], out_dtype=torch.float32, out=batch)
        return total
    return _add_widened(total, a, b, keep=1)


def _add_widened(total: Tensor, a: Tensor, b: Tensor, keep: int) -> Tensor:
    if not a.shape[1]:
        return total if keep else total.zero_()
    halves = [x.dtype in HALVES for x in (a, b)]
    for i in _blocks(len(a), halves[0]):
        for k in _blocks(a.shape[1], any(halves)):
            left = a[i, k].to(total.dtype)
            for j in _blocks(b.shape[1], halves[1]):
                total[i, j].addmm_(left, b[k, j].to(total.dtype), beta=keep if k.start == 0 else 1)
    return total


def _blocks(length: int, cut: bool) -> Iterator[slice]:
    step = BLOCK if cut else max(length, 1)
    return (slice(start, start + step) for start in range(0, length, step))


def split_halves(x: Tensor, dtype: torch.dtype, count: int) -> list[Tensor]:
    """Return ``count`` halves of which x is the sum: 8 bits of x each in bfloat16, exact for products of that many."""
    parts = [x.to(dtype)]
    for _ in range(count - 1):
        x = x - parts[-1]
        parts.append(x.to(dtype))
    return parts


def multiply_parts(left: Sequence[Tensor], right: Sequence[Tensor], out: Tensor) -> Tensor:
    """Return Σ_pq left_p @ right_qᵀ, (n, m), in ``out``. left: halves (n, K). right: halves (m, K)."""
    for p, a in enumerate(left):
        for q, b in enumerate(right):
            if p or q:
                add_matmul_(out, a, b.T)
            else:
                matmul_float32(a, b.T, out=out)
    return out


class Slope(NamedTuple):
    """Slopes of a loss by a tile of logits, (t, n), as the products of the backward pass take them.

    They are ``values`` times ``unit``, where there is one.
    """

    values: Tensor
    unit: Tensor | None  # 0-d

    def times(self, x: Tensor) -> Tensor:
        """Return the slopes times x (n, D): (t, D)."""
        down = matmul_float32(self.values, self._fit(x))
        return down if self.unit is None else down.mul_(self.unit)

    def add_transposed(self, total: Tensor, x: Tensor) -> None:
        """Add the slopes' transpose times x (t, D) to total (n, D)."""
        if self.unit is None:
            add_matmul_(total, self.values.T, self._fit(x))
        else:
            total += matmul_float32(self.values.T, self._fit(x)).mul_(self.unit)

    def transpose(self) -> Slope:
        """Return the slopes (n, t)."""
        return Slope(self.values.T, self.unit)

    def _fit(self, x: Tensor) -> Tensor:
        return x.to(self.values.dtype) if self.values.dtype in HALVES else x


def round_slope(slope: Tensor, half: torch.dtype | None) -> Slope:
    """Return the slopes (t, n) rounded to a half, or as they are where ``half`` is None.

    float16 has a small range, so there the slopes are scaled to it by their largest.
    """
    if half is None:
        return Slope(slope, None)
    if half == torch.bfloat16:
        return Slope(slope.to(half), None)
    unit = slope.abs().amax() / LARGEST
    unit = torch.where(unit > 0, unit, 1)
    return Slope((slope / unit).to(half), unit)
