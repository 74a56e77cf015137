"""Exact search: the best samples by score and top-k, a block of candidates at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from align.scoring import How, choose, score
from align.values import Rows, TermInfo

block = 65536  # candidates scored at a time


class Hit(NamedTuple):
    """A found sample: its rank from 1, its score by the rule, its number, and the index's entry on it.

    cosines: modality -> the cosine of that part of the query with the sample's best row.
    """

    rank: int
    score: float
    sample: int
    item: dict[str, Any]
    cosines: dict[str, float]


def find_best(
    query: Mapping[str, Tensor],
    rows: Rows,
    *,
    of: str,
    k: int = 10,
    how: How | None = None,
    terms: Sequence[TermInfo] = (),
) -> tuple[Tensor, Tensor]:
    """Return the scores (q, k) and the samples (q, k), best first. A sample counts by its best row. Among
    equal scores the first sample comes first.

    rows: candidates of modality `of`, their samples in ascending order. Fewer than k samples give fewer columns.
    how: None: as ``align.scoring.choose`` says.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if not isinstance(rows.values, Tensor):
        raise TypeError("candidates are embeddings (n, D)")
    how = how or choose(terms, query, of)
    q = len(next(iter(query.values())))
    best, found = torch.empty(q, 0), torch.empty(q, 0, dtype=torch.long)
    start = 0
    while start < rows.n:
        end = min(start + block, rows.n)
        if end < rows.n:  # a block ends where a sample ends
            last = rows.sample[end - 1]
            end = int(torch.searchsorted(rows.sample, last, right=True))
        sample, place = rows.sample[start:end].unique_consecutive(return_inverse=True)
        scores = score(query, rows.values[start:end], how, of=of, terms=terms).float()  # (q, rows of the block)
        per = scores.new_full((q, len(sample)), -torch.inf).scatter_reduce_(1, place.expand(q, -1), scores, "amax")
        top, at = per.topk(min(k, len(sample)), dim=1)
        best, found = torch.cat([best, top], dim=1), torch.cat([found, sample[at]], dim=1)
        by_sample = found.argsort(dim=1, stable=True)  # equal scores stand in the order of their samples
        best, found = best.gather(1, by_sample), found.gather(1, by_sample)
        order = best.argsort(dim=1, descending=True, stable=True)[:, :k]
        best, found = best.gather(1, order), found.gather(1, order)
        start = end
    return best, found
