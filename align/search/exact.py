"""Exact search: the best samples of a query vector, a block of rows at a time."""

from __future__ import annotations

import torch
from torch import Tensor

block = 65536  # rows scored at a time


def find_best(query: Tensor, values: Tensor, sample: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the scores (q, k) and the samples (q, k), best first, by the inner product with each row.

    A sample counts by its best row. Among equal scores the lower number comes first. Fewer samples than k give fewer
    columns. query: (q, D), values: (n, D), sample: (n,) numbers in ascending order.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    q = len(query)
    best, found = torch.empty(q, 0), torch.empty(q, 0, dtype=torch.long)
    start = 0
    while start < len(values):
        end = min(start + block, len(values))
        if end < len(values):  # a block ends where a sample ends
            end = int(torch.searchsorted(sample, sample[end - 1], right=True))
        numbers, place = sample[start:end].unique_consecutive(return_inverse=True)
        scores = query.float() @ values[start:end].float().T  # (q, rows of the block)
        per = scores.new_full((q, len(numbers)), -torch.inf).scatter_reduce_(1, place.expand(q, -1), scores, "amax")
        top, at = per.topk(min(k, len(numbers)), dim=1)
        best, found = torch.cat([best, top], dim=1), torch.cat([found, numbers[at]], dim=1)
        by_sample = found.argsort(dim=1, stable=True)  # equal scores stand in the order of their samples
        best, found = best.gather(1, by_sample), found.gather(1, by_sample)
        order = best.argsort(dim=1, descending=True, stable=True)[:, :k]
        best, found = best.gather(1, order), found.gather(1, order)
        start = end
    return best, found
