"""Dimensions that a modality uses: effective rank and isotropy, by the spectrum of its rows."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from align.metrics.geometry.estimate import Estimate, linearise
from align.metrics.geometry.rows import UnitRows

CONSTANT = 1e-12  # variance per squared length below which rows are one point


class Moments(NamedTuple):
    """Sums over n rows in float64. total: (D,) of the rows. gram: (D, D) of their outer products."""

    n: int
    total: Tensor
    gram: Tensor


def moments(x: UnitRows) -> Moments:
    """Return the sums over all rows."""
    total = torch.zeros(x.dim, dtype=torch.float64)
    gram = torch.zeros(x.dim, x.dim, dtype=torch.float64)
    for _, a in x.blocks():
        total += a.sum(dim=0)
        gram.addmm_(a.T, a)
    return Moments(len(x), total, gram)


def effective_rank(x: UnitRows, sums: Moments) -> Estimate:
    """Return exp(H) of the singular values s of the rows, H the entropy of s / sum(s) (Roy and Vetterli 2007, "The
    effective rank", equation 3).

    It lies between 1 (all rows on one line through the origin) and min(n, D). The rows are not centred. sums: those of
    ``moments(x)``.
    """
    spectrum, vectors = torch.linalg.eigh(sums.gram)
    kept = spectrum > spectrum[-1].clamp(min=0) * len(spectrum) * torch.finfo(torch.float64).eps
    if not bool(kept.any()):
        return Estimate(0.0, torch.zeros(len(x), dtype=torch.float64))
    singular, vectors = spectrum[kept].sqrt(), vectors[:, kept]
    share = singular / singular.sum()
    entropy = -(share * share.log()).sum()
    # d entropy / d s_k = -(log p_k + entropy) / sum(s), and d s_k of a row a = (a . v_k)^2 / (2 s_k)
    slope = -(share.log() + entropy) / (2 * singular.sum() * singular)
    weights = (vectors * slope) @ vectors.T  # (D, D): the sum over k, for all rows at a time
    influence = torch.cat([((a @ weights) * a).sum(dim=1) for _, a in x.blocks()])
    value = float(entropy.exp())
    return linearise(value, value * len(x) * influence)


def isotropy(x: UnitRows, sums: Moments) -> Estimate:
    """Return IsoScore: 0 where the rows vary along one line, 1 where they vary equally in all D directions (Rudman et
    al. 2022, arXiv 2108.07344, algorithm 1).

    With the eigenvalues l of the rows' covariance, its steps come to (sum(l)^2 / sum(l^2) - 1) / (D - 1). It is 0 of
    constant rows. sums: those of ``moments(x)``.
    """
    n, middle = sums.n, sums.total / sums.n
    covariance = sums.gram / n - middle.outer(middle)
    trace, square = covariance.trace(), covariance.square().sum()
    if x.dim < 2 or float(trace) <= CONSTANT * float(sums.gram.trace()) / n:
        return Estimate(0.0, torch.zeros(len(x), dtype=torch.float64))
    parts = []
    for _, a in x.blocks():
        a = a - middle
        length, spread = a.square().sum(dim=1), ((a @ covariance) * a).sum(dim=1)
        parts.append(2 * trace / square * length - 2 * (trace / square).square() * spread)
    value = float((trace.square() / square - 1) / (x.dim - 1))
    return linearise(value, torch.cat(parts) / (x.dim - 1))
