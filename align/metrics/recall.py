"""Recall, median rank and reciprocal rank, from the ranks of the right candidates.

Rows of scores are taken in chunks, so that 10,000 x 10,000 scores need little more memory than they have themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

CHUNK = 1 << 22  # scores in a chunk


def ranks(scores: Tensor, hits: Tensor) -> Tensor:
    """Return the rank of each row's best hit, from 1, as (q,) int64. It is 0 where a row found nothing.

    scores: (q, c), higher is better. hits: (q, c) bool, true where the candidate is right. A row may have several hits.
    A row finds nothing where it has no hit, or where all its scores are the same and some candidate is wrong. Raises
    ValueError where the shapes differ.
    """
    parts = []
    for score, hit in chunks(scores, hits):
        if not score.shape[1]:
            parts.append(torch.zeros(len(score), dtype=torch.int64, device=scores.device))
            continue
        best = score.masked_fill(~hit, -math.inf).amax(1, keepdim=True)  # (rows, 1)
        rank = 1 + (~hit & (score >= best)).sum(1)
        parts.append(torch.where(has_found(score, hit), rank, 0))
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64, device=scores.device)


def recall_at(ranks: Tensor, k: int) -> float:
    """Return the share of rows whose rank (q,) is 1..k, nan of no rows. Raises ValueError for k below 1."""
    check_k(k)
    return average((ranks >= 1) & (ranks <= k))


def median_rank(ranks: Tensor) -> float:
    """Return the median of the ranks (q,), the lower of two middle ones, nan of no rows.

    It is inf where half of the rows found nothing.
    """
    if not len(ranks):
        return math.nan
    return float(torch.where(ranks >= 1, ranks.double(), math.inf).sort().values[(len(ranks) - 1) // 2])


def mean_reciprocal_rank(ranks: Tensor) -> float:
    """Return the mean of 1 / rank (q,), where a row that found nothing counts 0. It is nan of no rows."""
    return average(torch.where(ranks >= 1, 1 / ranks.double().clamp(min=1), 0))


def chunks(scores: Tensor, hits: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield scores and hits of some rows at a time, where a NaN is worse than any number for a hit and better than any
    for a wrong candidate. Raises ValueError where the shapes differ."""
    if scores.ndim != 2 or scores.shape != hits.shape or hits.dtype != torch.bool:
        raise ValueError(
            f"metrics take scores (q, c) and bool hits of one shape; got {tuple(scores.shape)} and {tuple(hits.shape)}"
            f" of {hits.dtype}"
        )
    rows = max(1, CHUNK // max(1, scores.shape[1]))
    for score, hit in zip(scores.split(rows), hits.split(rows), strict=True):
        if len(score):
            missing = score.isnan()
            worst = torch.full_like(score, math.inf).masked_fill(hit | missing.all(1, keepdim=True), -math.inf)
            yield torch.where(missing, worst, score), hit


def has_found(score: Tensor, hit: Tensor) -> Tensor:
    """Return which rows found something, as (q,) bool."""
    constant = (score == score[:, :1]).all(1) & ~hit.all(1)
    return hit.any(1) & ~constant


def average(x: Tensor) -> float:
    """Return the mean in float64, nan of nothing."""
    return float(x.double().mean())


def check_k(k: int) -> None:
    """Raise ValueError for k below 1."""
    if k < 1:
        raise ValueError(f"k is at least 1; got {k}")
