"""Words and vectors together: two orders become one by reciprocal rank fusion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from align.search.index import Index
from align.search.where import All, Where, parse

RANK = 60  # of Cormack et al. 2009: it damps the difference between the first ranks
DEPTH = 1000
"""Samples of each order that are joined, at least."""


class Ranking(NamedTuple):
    """Samples in order. scores: (m,) float32, samples: (m,), words: sample -> its rank in the full text search."""

    scores: Tensor
    samples: Tensor
    words: Mapping[int, int] = {}


def list_texts(index: Index, text: str, of: str, k: int, where: Where | None) -> Ranking:
    """Return the k best samples with a row of ``of`` by the full text of their captions. The score is BM25's."""
    having = parse({"has": of})
    scores, samples = index.find_text(text, k, having if where is None else All((where, having)))
    return Ranking(scores, samples, {number: rank for rank, number in enumerate(samples.tolist(), 1)})


def fuse(vectors: Ranking, texts: Ranking, k: int) -> Ranking:
    """Return the k best samples of both orders by the sum of 1 / (60 + rank) over the orders that a sample is in.

    It is reciprocal rank fusion (Cormack et al. 2009, SIGIR, "Reciprocal rank fusion outperforms Condorcet and
    individual rank learning methods"). Among equal sums the lower number comes first.
    """
    sums: dict[int, float] = {}
    for order in (vectors, texts):
        for rank, number in enumerate(order.samples.tolist(), 1):
            sums[number] = sums.get(number, 0.0) + 1 / (RANK + rank)
    best = sorted(sums, key=lambda number: (-sums[number], number))[:k]
    scores = torch.tensor([sums[number] for number in best])
    return Ranking(scores, torch.tensor(best, dtype=torch.long), texts.words)
