"""Matching accuracy: the share of held-out rows whose nearest row of another column is of their sample or group."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.metrics import ranks, recall_at
from align.values import Features

CELLS = 1 << 22  # scores held at a time


class Side(NamedTuple):
    """Rows of a column.

    values: (n, W). sample: (n,) int64, equal for rows of one sample. group: (n,) int64, -1 for none.
    """

    values: Tensor
    sample: Tensor
    group: Tensor

    def take(self, kept: Tensor) -> Side:
        """Return some rows, by their indices or a mask."""
        return Side(self.values[kept], self.sample[kept], self.group[kept])


class Match(NamedTuple):
    """Top-1 accuracy of query → answer.

    chance: the accuracy of a random order. rows: queries that have a right candidate. among: candidates.
    """

    query: str
    answer: str
    accuracy: float
    chance: float
    rows: int
    among: int


@torch.no_grad()
def embed(head: nn.Module, values: Tensor) -> Tensor:
    """Return unit vectors (n, D) in float64 of cached rows (n, W). The head runs in float32, as it is saved."""
    parts = [F.normalize(head(Features(part.float())).double(), dim=-1, eps=1e-6) for part in values.split(8192)]
    return torch.cat(parts) if parts else values.new_zeros(0, 0, dtype=torch.float64)


def match(query: str, asked: Side, answer: str, given: Side) -> Match:
    """Return the matching accuracy by cosine of embeddings. Ties never help.

    asked, given: sides whose values are unit vectors (n, D). A candidate is right if it is of the query's sample or of
    its group. A query without a right candidate is left out.
    """
    hits_of = []  # shares of right candidates
    found = []
    for rows in torch.arange(len(asked.values)).split(max(1, CELLS // max(1, len(given.values)))):
        part = asked.take(rows)
        hits = part.sample[:, None] == given.sample
        hits |= (part.group[:, None] == given.group) & (part.group[:, None] >= 0)
        has = hits.any(1)
        scores = (part.values[has] @ given.values.T).float()  # equal rows tie
        found.append(ranks(scores, hits[has]))
        hits_of.append(hits[has].double().mean(1))
    rank, shares = torch.cat(found), torch.cat(hits_of)
    return Match(query, answer, recall_at(rank, 1), float(shares.mean()), len(rank), len(given.values))
