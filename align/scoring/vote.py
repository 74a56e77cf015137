"""Votes: the scores of rows, such as the snippets of a sound, joined into one score for each pair of items."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Ballot = Literal["mean", "best", "count"]
"""The rule of a vote. mean: the mean score of all pairs of rows. best: each row of the query gives the score of the
item's best row, and these are averaged. count: each row of the query votes for the item of its best row, and the score
is the item's share of these votes."""


def vote(
    scores: Tensor, query_item: Tensor, candidate_item: Tensor, how: Ballot = "mean", *, skip_own: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the scores (Q, C) of candidate items for query items, and the numbers of these, (Q,) and (C,), ascending.

    It is how snippets of a recording find a piece of sheet music: each snippet is a query, and the piece with most of
    their votes is the answer (Dorfer et al. 2018, TISMIR 1(1), section 5; Carvalho et al. 2023, arXiv:2309.12134).

    Args:
        scores: (q, c) of rows, the higher the better.
        query_item, candidate_item: (q,) and (c,) int64, the item that each row belongs to. Rows of -1 are left out.
        how: see ``Ballot``. In "count" rows that tie share the vote equally.
        skip_own: an item is no candidate of itself, where the queries are among the candidates. Its score is -inf.

    Raises ValueError for another rule, and where shapes do not fit.
    """
    if how not in get_args(Ballot):
        raise ValueError(f"a vote is by {', '.join(get_args(Ballot))}; got {how!r}")
    if scores.shape != (len(query_item), len(candidate_item)):
        raise ValueError(f"scores are (q, c) = {(len(query_item), len(candidate_item))}; got {tuple(scores.shape)}")
    rows, columns = query_item >= 0, candidate_item >= 0
    scores, query_item, candidate_item = scores[rows][:, columns].double(), query_item[rows], candidate_item[columns]
    asking, q = query_item.unique(return_inverse=True)
    found, c = candidate_item.unique(return_inverse=True)
    itself = asking[:, None] == found  # (Q, C)
    if skip_own:
        scores = scores.masked_fill(itself[q][:, c], -torch.inf)
    by_item = _by_item(scores, c, len(found), how)  # (q, C)
    total = by_item.new_zeros(len(asking), len(found)).index_add_(0, q, by_item)
    out = total / q.bincount(minlength=len(asking))[:, None]
    return out.masked_fill(itself, -torch.inf) if skip_own else out, asking, found


def _by_item(scores: Tensor, item: Tensor, items: int, how: Ballot) -> Tensor:
    """Return the score (q, C) of each item by each row of the query. item: (c,) the place 0..C-1 of each candidate."""
    if how == "mean":
        summed = scores.new_zeros(len(scores), items).index_add_(1, item, scores)
        return summed / item.bincount(minlength=items)
    best = scores.new_full((len(scores), items), -torch.inf)
    best.scatter_reduce_(1, item.expand(len(scores), -1), scores, "amax")
    if how == "best" or not items:
        return best
    first = (best == best.amax(1, keepdim=True)) & (best > -torch.inf)
    return first / first.sum(1, keepdim=True).clamp(min=1)
