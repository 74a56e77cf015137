"""The multilinear inner product, Symile's similarity of a tuple."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from align.losses.kernels.numerics import at_least_float32


def mip(embeddings: Sequence[Tensor]) -> Tensor:
    """Return Σ_d Π_m x_m[..., d], the inner product of two vectors extended to M.

    It is Symile's (Saporta et al. 2024, arXiv 2411.01053, section 3.2).

    embeddings: M >= 1 tensors (..., D) of shapes that broadcast. Returns (...), float32 at least. Raises ValueError
    where there is none.
    """
    if not embeddings:
        raise ValueError("mip takes at least one tensor (..., D); got none")
    return functools.reduce(torch.mul, at_least_float32(embeddings)).sum(-1)
