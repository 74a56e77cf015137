"""Products of halves as a GPU has them, on a CPU, so that the code for a GPU runs in the tests."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from align.losses.kernels import products

HALVES = [torch.bfloat16, torch.float16]


def multiply_halves(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Let torch multiply two halves of one dtype into float32. Return the list of the shapes that it multiplies."""
    seen: list[tuple[int, ...]] = []
    plain = torch.mm

    def mm(a: Tensor, b: Tensor, *, out_dtype=None, out=None) -> Tensor:
        assert (a.dtype in HALVES) == (out_dtype is not None), "halves are multiplied with float32 results only"
        if out_dtype is None:
            return plain(a, b, out=out)
        assert (a.dtype, out_dtype) == (b.dtype, torch.float32)
        seen.append((*a.shape, b.shape[1]))
        return plain(a.float(), b.float(), out=out)

    def baddbmm(total: Tensor, a: Tensor, b: Tensor, *, out_dtype, out) -> Tensor:
        assert out is total
        assert (a.dtype, out_dtype) == (b.dtype, torch.float32)
        assert a.dtype in HALVES
        seen.append((*a.shape[1:], b.shape[2]))
        return out.add_(a.float() @ b.float())

    monkeypatch.setattr(torch, "mm", mm)
    monkeypatch.setattr(torch, "baddbmm", baddbmm)
    monkeypatch.setattr(products, "has_half_products", lambda device: True)
    return seen
