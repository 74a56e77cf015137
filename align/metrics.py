"""Numbers from scores. Ties never help: rank = 1 + strictly better + equal and wrong.

An embedding that says nothing scores 0 in every metric: a row whose scores are all the same has found nothing, nor has
one of NaN; a single NaN is worse than any number for a hit and better than any for a wrong candidate. Rows are taken in
chunks: 10,000 x 10,000 scores need little more memory than they have themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

CHUNK = 1 << 22  # scores looked at together


def ranks(scores: Tensor, hits: Tensor) -> Tensor:
    """(q,) int64, the rank of each row's best hit, from 1; 0 where nothing was found.

    scores: (q, c), higher is better. hits: (q, c) bool, true where the candidate is right; a row may have several.
    Nothing is found where a row has no hit, or where all its scores are the same and some candidate is wrong. Raises
    ValueError where the shapes differ.
    """
    parts = []
    for score, hit in _chunks(scores, hits):
        if not score.shape[1]:
            parts.append(torch.zeros(len(score), dtype=torch.int64, device=scores.device))
            continue
        best = score.masked_fill(~hit, -math.inf).amax(1, keepdim=True)  # (rows, 1)
        rank = 1 + (~hit & (score >= best)).sum(1)
        parts.append(torch.where(_found(score, hit), rank, 0))
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64, device=scores.device)


def recall_at(ranks: Tensor, k: int) -> float:
    """The share of rows (q,) whose rank is 1..k; nan of no rows. k at least 1."""
    _positive(k)
    return _mean((ranks >= 1) & (ranks <= k))


def median_rank(ranks: Tensor) -> float:
    """The median of the ranks (q,), the lower of two middle ones; inf where half of the rows found nothing."""
    if not len(ranks):
        return math.nan
    return float(torch.where(ranks >= 1, ranks.double(), math.inf).sort().values[(len(ranks) - 1) // 2])


def mean_reciprocal_rank(ranks: Tensor) -> float:
    """The mean of 1 / rank (q,), 0 where nothing was found; nan of no rows."""
    return _mean(torch.where(ranks >= 1, 1 / ranks.double().clamp(min=1), 0))


def mean_average_precision(scores: Tensor, hits: Tensor) -> float:
    """The mean over rows of the average precision: over a row's hits, the share of hits down to and with each.

    scores, hits: (q, c) as in ``ranks``; equal and wrong candidates stand before a hit. A row that finds nothing is 0.
    """
    parts = []
    for score, hit in _chunks(scores, hits):
        count = hit.sum(1, keepdim=True)  # (rows, 1)
        wrong = score.masked_fill(hit, -math.inf).sort(dim=1).values
        right = score.masked_fill(~hit, -math.inf).topk(int(count.max()), dim=1).values  # (rows, hits), best first
        not_worse = (score.shape[1] - torch.searchsorted(wrong, right)).minimum(score.shape[1] - count)
        number = torch.arange(1, right.shape[1] + 1, device=right.device)
        precision = torch.where(number <= count, number / (number + not_worse).double(), 0)
        parts.append(torch.where(_found(score, hit), precision.sum(1) / count[:, 0].clamp(min=1), 0))
    return _mean(torch.cat(parts)) if parts else math.nan


def accuracy(scores: Tensor, target: Tensor) -> float:
    """The share of rows whose right class has the strictly highest score. scores: (q, c); target: (q,) int64."""
    return accuracy_at(scores, target, 1)


def accuracy_at(scores: Tensor, target: Tensor, k: int) -> float:
    """The share of rows whose right class is among the best k. scores: (q, c); target: (q,) int64 in 0..c-1."""
    if scores.ndim != 2 or target.shape != scores.shape[:1]:
        raise ValueError(
            f"accuracy takes scores (q, c) and targets (q,); got {tuple(scores.shape)} and {tuple(target.shape)}"
        )
    if len(target) and (int(target.min()) < 0 or int(target.max()) >= scores.shape[1]):
        raise ValueError(f"targets are 0..{scores.shape[1] - 1}; got {int(target.min())}..{int(target.max())}")
    _positive(k)
    hits = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device).scatter_(1, target[:, None], True)
    return recall_at(ranks(scores, hits), k)


def _chunks(scores: Tensor, hits: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
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


def _found(score: Tensor, hit: Tensor) -> Tensor:
    constant = (score == score[:, :1]).all(1) & ~hit.all(1)
    return hit.any(1) & ~constant


def _mean(x: Tensor) -> float:
    return float(x.double().mean())


def _positive(k: int) -> None:
    if k < 1:
        raise ValueError(f"k is at least 1; got {k}")
