"""Average precision: its mean, of scores on any device, and that of single queries from the places of their hits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from align.metrics.places import Places
from align.metrics.recall import average, chunks, has_found


def mean_average_precision(scores: Tensor, hits: Tensor) -> float:
    """Return the mean over rows of the average precision: over a row's hits, the share of hits down to and with each.

    scores, hits: (q, c) as in ``ranks``, on any device. Equal and wrong candidates stand before a hit. A row that finds
    nothing counts 0. It is nan of no rows.
    """
    parts = []
    for score, hit in chunks(scores, hits):
        count = hit.sum(1, keepdim=True)  # (rows, 1)
        wrong = score.masked_fill(hit, -math.inf).sort(dim=1).values
        right = score.masked_fill(~hit, -math.inf).topk(int(count.max()), dim=1).values  # (rows, hits), best first
        not_worse = (score.shape[1] - torch.searchsorted(wrong, right)).minimum(score.shape[1] - count)
        number = torch.arange(1, right.shape[1] + 1, device=right.device)
        precision = torch.where(number <= count, number / (number + not_worse).double(), 0)
        parts.append(torch.where(has_found(score, hit), precision.sum(1) / count[:, 0].clamp(min=1), 0))
    return average(torch.cat(parts)) if parts else math.nan


def average_precisions(places: Places) -> Tensor:
    """Return the average precision of each query as (q,) float64, 0 where it found nothing.

    It is ``mean_average_precision`` of single queries, from the places of their hits. A test compares the two.
    """
    out = torch.zeros(len(places.hits), dtype=torch.float64)
    out.index_add_(0, places.row, places.number / places.place.double())
    return out / places.hits.clamp(min=1)
