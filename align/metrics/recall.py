"""Recall, median rank and reciprocal rank, from the ranks of the right candidates.

Rows of scores are taken in chunks, so that 10,000 x 10,000 scores need little more memory than they have themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

CHUNK = 1 << 22  # scores in a chunk


def ranks(scores: Tensor, hits: Tensor, skip: Tensor | None = None) -> Tensor:
    """Return the rank of each row's best hit, from 1, as (q,) int64. It is 0 where a row found nothing.

    scores: (q, c), higher is better. hits: (q, c) bool, true where the candidate is right. A row may have several hits.
    A row finds nothing where it has no hit, or where all its scores are the same and some candidate is wrong. skip:
    (q, c) bool, candidates that are in no list: no hits, scores of -inf. Raises ValueError where the shapes differ.
    """
    parts = []
    rows = max(1, CHUNK // max(1, scores.shape[1]))
    pieces = -(-len(scores) // rows)
    left_out = [None] * pieces if skip is None else skip.split(rows)[:pieces]
    for (score, hit), out in zip(chunks(scores, hits), left_out, strict=True):
        if not score.shape[1]:
            parts.append(torch.zeros(len(score), dtype=torch.int64, device=scores.device))
            continue
        best = torch.where(hit, score, -math.inf).amax(1, keepdim=True)  # (rows, 1)
        rank = 1 + count_true(~hit & (score >= best))
        parts.append(torch.where(has_found(score, hit, out), rank, 0))
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


def weighted_median(values: Tensor, weights: Tensor) -> Tensor:
    """Return the lower median of the values (q,) under each draw's weights (draws, q), as (draws,) float64.

    It is the least value up to which half of the weight lies: with weights of 1 that of ``median_rank``.
    """
    value, order = values.double().sort()
    share = weights[:, order].cumsum(dim=1)
    place = torch.searchsorted(share, share[:, -1:] / 2).clamp(max=len(value) - 1)
    return value[place[:, 0]]


def reciprocal_ranks(ranks: Tensor) -> Tensor:
    """Return 1 / rank (q,) as float64, 0 where a row found nothing."""
    return torch.where(ranks >= 1, 1 / ranks.double().clamp(min=1), 0)


def mean_reciprocal_rank(ranks: Tensor) -> float:
    """Return the mean of 1 / rank (q,), where a row that found nothing counts 0. It is nan of no rows."""
    return average(reciprocal_ranks(ranks))


def chunks(scores: Tensor, hits: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield scores without NaN, and hits, of some rows at a time. Raises ValueError where the shapes differ."""
    check_shapes(scores, hits)
    rows = max(1, CHUNK // max(1, scores.shape[1]))
    for score, hit in zip(scores.split(rows), hits.split(rows), strict=True):
        if len(score):
            yield replace_nan(score, hit), hit


def check_shapes(scores: Tensor, hits: Tensor) -> None:
    """Raise ValueError where scores and hits are not (q, c) both, or the hits not bool."""
    if scores.ndim != 2 or scores.shape != hits.shape or hits.dtype != torch.bool:
        raise ValueError(
            f"metrics take scores (q, c) and bool hits of one shape; got {tuple(scores.shape)} and {tuple(hits.shape)}"
            f" of {hits.dtype}"
        )


def replace_nan(score: Tensor, hit: Tensor) -> Tensor:
    """Return scores where a NaN is worse than any number for a hit and better than any for a wrong candidate.

    score: (q, c). hit: (q, c) bool. All NaN of a row that has nothing else are one number.
    """
    if not score.shape[1] or not bool(score.amax(1).isnan().any()):  # the maximum is NaN where any score is
        return score
    missing = score.isnan()
    worst = torch.full_like(score, math.inf).masked_fill(hit | missing.all(1, keepdim=True), -math.inf)
    return torch.where(missing, worst, score)


def has_found(score: Tensor, hit: Tensor, skip: Tensor | None = None) -> Tensor:
    """Return which rows found something, as (q,) bool. skip: (q, c) bool, candidates that are in no list."""
    right = count_true(hit)
    listed = score.shape[1] - (0 if skip is None else count_true(skip))
    return (right > 0) & ~(is_constant(score, skip) & (right < listed))


def is_constant(score: Tensor, skip: Tensor | None = None) -> Tensor:
    """Return which rows have one score for all candidates in the list, as (q,) bool."""
    lowest = score if skip is None else score.masked_fill(skip, math.inf)
    return lowest.amin(1) >= score.amax(1)


def count_true(mask: Tensor) -> Tensor:
    """Return the number of true ones in each row of a bool (q, c), as (q,) int64."""
    if mask.device.type == "cpu":
        return torch.from_numpy(mask.numpy().sum(axis=1))  # ten times faster than torch's sum
    return mask.sum(1)


def average(x: Tensor) -> float:
    """Return the mean in float64, nan of nothing."""
    return float(x.double().mean())


def check_k(k: int) -> None:
    """Raise ValueError for k below 1."""
    if k < 1:
        raise ValueError(f"k is at least 1; got {k}")
