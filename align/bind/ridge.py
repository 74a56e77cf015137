"""Ridge regression in closed form, and its strength by generalised cross-validation."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from align.bind.moments import Moments

STRENGTHS = tuple(10.0 ** (k / 4) for k in range(-24, 17))
"""Strengths that are tried, as multiples of the mean eigenvalue of ``xx``: 1e-6 to 1e4."""


class Strength(NamedTuple):
    """Strength of ridge regression, and facts of its choice.

    value: added to the diagonal of ``xx``. error: the generalised cross-validation error of a row, summed over the
    targets. freedom: effective degrees of freedom, the intercept's among them. at_end: True where it is the first or
    last of those tried.
    """

    value: float
    error: float
    freedom: float
    at_end: bool


def choose_strength(moments: Moments) -> Strength:
    """Return the strength of x → y with the lowest generalised cross-validation error (Golub, Heath and Wahba 1979,
    Technometrics 21, equation 1.4), for all targets together.

    With s the r eigenvalues of ``xx`` above zero, q² the squared rows of Vᵀ xy and b = λ / (s + λ), the error is
    ``n · (tr yy - Σ q² / s + Σ b² q² / s) / (n - 1 - r + Σ b)²``. The first two terms are 0 where r = n - 1, as rows of
    many numbers fit few pairs exactly. It reads the pairs of the fit alone. It takes the rows to be independent, so
    several rows of one sample make it too low.

    Raises ValueError for fewer than 3 pairs, and for x that never changes.
    """
    if moments.n < 3:
        raise ValueError(f"ridge needs 3 pairs at least to choose its strength, there {_are(moments.n)}")
    s, v = torch.linalg.eigh(moments.xx)
    s = s.clamp(min=0)  # (W,)
    mean = float(s.mean())
    if not mean > 0:
        raise ValueError(f"all {moments.n} rows are the same; there is nothing to fit")
    n = moments.n
    real = s > len(s) * torch.finfo(torch.float64).eps * s[-1]  # ascending
    real[: max(0, len(s) - (n - 1))] = False  # n rows less their mean have n - 1 directions at most
    s, rest = s[real], n - 1 - int(real.sum())
    share = (v[:, real].T @ moments.xy).square().sum(1) / s  # (r,)
    apart = max(float(moments.yy.trace() - share.sum()), 0.0) if rest else 0.0
    found = []
    for step in STRENGTHS:
        value = mean * step
        bend = value / (s + value)
        left, lost = apart + float((share * bend.square()).sum()), rest + float(bend.sum())
        found.append((n * left / lost**2, value, n - lost))
    best = min(range(len(found)), key=lambda i: found[i][0])
    error, value, freedom = found[best]
    return Strength(value, error, freedom, best in (0, len(found) - 1))


def _are(n: int) -> str:
    return f"is {n}" if n == 1 else f"are {n}"


def solve_ridge(moments: Moments, strength: float) -> Tensor:
    """Return the coefficients (W, D) of x → y: ``(xx + strength · I)⁻¹ xy`` (Hoerl and Kennard 1970, Technometrics 12).

    (x - ``mean_x``) times the coefficients predicts y - ``mean_y``. The intercept is not shrunk.
    """
    eye = torch.eye(len(moments.xx), dtype=torch.float64, device=moments.xx.device)
    return torch.linalg.solve(moments.xx + strength * eye, moments.xy)
