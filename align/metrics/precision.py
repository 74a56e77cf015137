"""Mean average precision, of scores on any device and, faster, of scores on the CPU."""

from __future__ import annotations

import math

import torch
from torch import Tensor

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


def mean_precision(scores: Tensor, hits: Tensor, ranks: Tensor) -> float:
    """Return ``mean_average_precision`` of scores on the CPU, by one fast sort, in a third of its time.

    scores: (q, c) float32. hits: (q, c) bool. ranks: (q,) of ``align.metrics.ranks``, 0 where a row found nothing.

    Score and hit are packed into one integer, which numpy sorts. ``mean_average_precision`` sorts two tensors with
    their places. A test compares the two.
    """
    worst = torch.full_like(scores, torch.inf).masked_fill(hits, -torch.inf)  # stands in for a NaN
    bits = (torch.where(scores.isnan(), worst, scores) + 0.0).view(torch.int32)  # + 0.0: no negative zero
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # integers in the order of the floats
    keys = (ordered.long() << 1) | (~hits).long()  # of equals, the wrong one is higher
    by_score = keys.numpy()  # whose sort is faster than torch's
    by_score.sort(axis=1)
    best_first = by_score[:, ::-1]
    right = (best_first & 1) == 0  # (q, c)
    places = torch.arange(1, right.shape[1] + 1).numpy()
    found = right.cumsum(axis=1, dtype="int32")  # hits down to each place
    precision = (found / places * right).sum(axis=1) / found[:, -1].clip(1)
    return float((precision * (ranks.numpy() > 0)).mean())
