"""Orthogonal Procrustes: the rotation that brings one set of rows nearest to another."""

from __future__ import annotations

import torch
from torch import Tensor

from align.bind.moments import Moments


def solve_procrustes(moments: Moments) -> Tensor:
    """Return the coefficients (W, D) of x → y, ``c · R``, where R has orthonormal columns or rows (Schönemann 1966,
    Psychometrika 31, equation 2.11), and c is the scale of the least squares.

    R is U Vᵀ of the singular value decomposition U S Vᵀ of ``xy``, and c is tr S / tr xx. The pairs do not determine R
    along directions with a singular value of zero. There R is zero, so that the result is unique.

    Raises ValueError where the pairs are too few for a rotation, and for rows that never change together.
    """
    w, d = moments.xy.shape
    if moments.n < min(w, d) + 1:
        raise ValueError(
            f"a rotation of {min(w, d)} directions needs {min(w, d) + 1} pairs at least, there are {moments.n}; "
            f"take a dim of {max(moments.n - 1, 1)} at most, or ridge"
        )
    u, s, v = torch.linalg.svd(moments.xy, full_matrices=False)
    spread = float(moments.xx.trace())
    size = (spread * float(moments.yy.trace())) ** 0.5
    known = s > max(w, d) * torch.finfo(torch.float64).eps * size
    if not known.any():
        raise ValueError(f"the rows of the {moments.n} pairs do not change together; there is no rotation to find")
    return (u[:, known] @ v[known]) * (float(s.sum()) / spread)
