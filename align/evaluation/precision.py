"""The mean average precision of many hits among many candidates, by one fast sort.

The same numbers as ``align.metrics.mean_average_precision``, which a test compares. There, score and hit are two
tensors and torch sorts with places; here both are packed into one integer and numpy sorts it, at a third of the cost.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def mean_precision(scores: Tensor, hits: Tensor, ranks: Tensor) -> float:
    """scores: (q, c) float32 on the CPU; hits: (q, c) bool; ranks: (q,) of ``align.metrics.ranks``, 0 found nothing."""
    worst = torch.full_like(scores, torch.inf).masked_fill(hits, -torch.inf)  # a NaN is no merit
    bits = (torch.where(scores.isnan(), worst, scores) + 0.0).view(torch.int32)  # + 0.0: no negative zero
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # integers in the order of the floats
    keys = (ordered.long() << 1) | (~hits).long()  # of equals, the wrong one is higher
    best_first = np.sort(keys.numpy(), axis=1)[:, ::-1]
    right = (best_first & 1) == 0  # (q, c)
    places = np.arange(1, right.shape[1] + 1)
    found = right.cumsum(axis=1, dtype=np.int32)  # hits down to each place
    precision = np.where(right, found / places, 0.0).sum(axis=1) / found[:, -1].clip(1)
    return float(np.where(ranks.numpy() > 0, precision, 0.0).mean())
