"""Normalised discounted cumulative gain, of hits and of graded hits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from align.metrics.places import Places
from align.metrics.recall import check_k, check_shapes, is_constant, replace_nan

BLOCK = 64  # candidates of which one maximum is kept


def hit_gains(places: Places, k: int) -> Tensor:
    """Return nDCG@k of each query as (q,) float64, where a hit has the gain 1: see ``graded_gains``."""
    check_k(k)
    k = min(k, max([1, *(int(some.max()) for some in (places.place, places.hits) if len(some))]))  # more adds nothing
    discount, ideal = _discounts(k)
    inside = places.place <= k
    gain = torch.zeros(len(places.hits), dtype=torch.float64)
    gain.index_add_(0, places.row[inside], discount[places.place[inside] - 1])
    return gain / ideal[places.hits.clamp(1, k) - 1]


def graded_gains(scores: Tensor, levels: Tensor, k: int, skip: Tensor | None = None) -> Tensor:
    """Return nDCG@k of each query as (q,) float64 (Järvelin and Kekäläinen 2002, doi:10.1145/582415.582418).

    It is the sum over the best k candidates of gain / log2(1 + place), over the sum of the best order there is. The
    gain is the level itself, as trec_eval has it, not 2^level - 1. Of equal scores the lower level stands first. A
    query without a level above 0 has 0, and so has one whose scores are all the same while its levels are not.

    scores: (q, c) on the CPU, a few million in all. levels: (q, c) uint8. skip: as of ``hit_places``.
    """
    hits = levels > 0
    check_shapes(scores, hits)
    check_k(k)
    most = min(k, scores.shape[1])
    discount, _ = _discounts(max(most, 1))
    if not most or not len(scores):
        return torch.zeros(len(scores), dtype=torch.float64)
    scores = replace_nan(scores, hits)
    ideal = levels.topk(most, dim=1).values.double() @ discount[:most]
    gain = _best_levels(scores, levels, most).double() @ discount[:most]
    lowest = levels if skip is None else levels.masked_fill(skip, 255)
    found = (lowest.amin(1) >= levels.amax(1)) | ~is_constant(scores, skip)
    return torch.where(found, gain / ideal.clamp(min=1), 0)  # a level above 0 makes the ideal 1 at least


def _best_levels(scores: Tensor, levels: Tensor, k: int) -> Tensor:
    """Return the levels (q, k) of the best k candidates, where of equal scores the lower level stands first."""
    q, c = scores.shape
    least = _least_of_best(scores, k)
    flat = torch.from_numpy((scores.numpy() >= least.numpy()[:, None]).ravel().nonzero()[0])
    value, level, row = scores.flatten()[flat], levels.flatten()[flat], flat // c
    order = torch.arange(len(flat))
    for key, descending in ((level, False), (value, True), (row, False)):  # stable sorts: the last key comes first
        order = order[key[order].argsort(stable=True, descending=descending)]
    level, row = level[order], row[order]
    count = torch.bincount(row, minlength=q)
    place = torch.arange(len(row)) - (count.cumsum(0) - count)[row]
    best = torch.zeros(q, k, dtype=levels.dtype)
    kept = place < k
    best[row[kept], place[kept]] = level[kept]
    return best


def _least_of_best(scores: Tensor, k: int) -> Tensor:
    """Return a number (q,) that at least k scores of each row reach, and few more: the k-th of the blocks' maxima."""
    blocks = scores.shape[1] // BLOCK
    if blocks < k:
        return scores.topk(k, dim=1).values[:, -1]
    highest = scores[:, : blocks * BLOCK].unflatten(1, (blocks, BLOCK)).amax(2)  # (q, blocks)
    return highest.topk(k, dim=1).values[:, -1]


def _discounts(k: int) -> tuple[Tensor, Tensor]:
    """Return 1 / log2(1 + place) of the places 1..k, and their sums, as float64 (k,)."""
    check_k(k)
    discount = math.log(2) / torch.arange(2, k + 2, dtype=torch.float64).log()
    return discount, discount.cumsum(0)
