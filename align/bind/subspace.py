"""Directions of the anchor's space: orthonormal or whitened, in order, with signs that do not depend on the machine."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from align.bind.moments import Moments, flip
from align.bind.ridge import choose_strength, solve_ridge


def fix_signs(columns: Tensor) -> Tensor:
    """Return the columns (D, k), each with the sign that makes its largest number positive.

    The sign of an eigenvector is arbitrary, so machines differ without this.
    """
    largest = columns.gather(0, columns.abs().argmax(0, keepdim=True))  # (1, k)
    return columns * torch.where(largest < 0, -1.0, 1.0)


def leading(symmetric: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return the largest ``dim`` eigenvalues (k,), descending, and their eigenvectors (D, k) of a symmetric matrix."""
    values, vectors = torch.linalg.eigh((symmetric + symmetric.T) / 2)
    return values.flip(0)[:dim], fix_signs(vectors.flip(1)[:, :dim])


def fitted_directions(pairs: Sequence[Moments], strengths: Sequence[float], dim: int) -> Tensor:
    """Return (D, k), the principal directions of the anchor's rows as ridge regression predicts them.

    It is the subspace of reduced-rank regression (Izenman 1975, Journal of Multivariate Analysis 5, theorem 1, with
    the identity for Γ), with ridge for least squares. Each set of pairs counts by its mean, whatever its size.
    """
    total = 0
    for moments, strength in zip(pairs, strengths, strict=True):
        b = solve_ridge(moments, strength)  # (W, D)
        total = total + b.T @ moments.xx @ b / moments.n
    return leading(total, dim)[1]  # pyright: ignore[reportArgumentType]


def shared_directions(pairs: Sequence[Moments], dim: int) -> Tensor:
    """Return (D, k), the directions of the anchor with the most covariance with the other columns: the singular vectors
    of the covariances (partial least squares, Wegelin 2000, mode A)."""
    return leading(sum(m.xy.T @ m.xy / m.n**2 for m in pairs), dim)[1]  # pyright: ignore[reportArgumentType]


def canonical_directions(pairs: Sequence[Moments], strengths: Sequence[float], dim: int) -> tuple[Tensor, Tensor]:
    """Return the anchor's canonical directions (D, k), and the sum (k,) of their squared correlations with each column.

    With one column they are those of canonical correlation analysis (Hotelling 1936, Biometrika 28), with a ridge on
    both covariances (Vinod 1976): the rows of the anchor along them are uncorrelated and of variance 1. With several
    columns they are the directions that all of these predict best: the eigenvectors of Σ Cyx (Cxx + λ)⁻¹ Cxy in the
    anchor's whitened space.

    strengths: of each column's ridge regression to the anchor. The anchor's own ridge is the mean of the strengths that
    generalised cross-validation gives the regressions back.
    """
    spread, ridge, found = 0, 0.0, 0
    for moments, strength in zip(pairs, strengths, strict=True):
        spread = spread + moments.yy / moments.n
        ridge += choose_strength(flip(moments)).value / moments.n
        found = found + moments.xy.T @ solve_ridge(moments, strength) / moments.n
    spread, ridge = spread / len(pairs), ridge / len(pairs)
    values, vectors = torch.linalg.eigh(spread)  # pyright: ignore[reportArgumentType]
    whiten = vectors * (values.clamp(min=0) + ridge).rsqrt() @ vectors.T  # (D, D), symmetric
    correlations, directions = leading(whiten @ found @ whiten, dim)
    return fix_signs(whiten @ directions), correlations.clamp(min=0)
