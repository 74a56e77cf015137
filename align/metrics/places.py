"""Places of all hits in the rankings of queries, from which rank, precision and gain follow."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from align.metrics.recall import check_shapes, has_found, replace_nan

FEW = 32  # hits of a row up to which a comparison with each of them is faster than a sort of the row


class Places(NamedTuple):
    """Hits of q queries, by row and, within a row, the best first. Rows that found nothing have none.

    row: (h,) the query of each hit. number: (h,) 1, 2, … within its row. place: (h,) int64, from 1, with equal and
    wrong candidates before the hit. hits: (q,) int64, how many each query has, found or not.
    """

    row: Tensor
    number: Tensor
    place: Tensor
    hits: Tensor

    @property
    def rank(self) -> Tensor:
        """(q,) int64, the place of the best hit, 0 where a row found nothing: that of ``align.metrics.ranks``."""
        first = self.number == 1
        return torch.zeros_like(self.hits).index_put_((self.row[first],), self.place[first])


def hit_places(scores: Tensor, hits: Tensor, skip: Tensor | None = None) -> Places:
    """Return the place of each hit among a row's candidates: its number among the hits, plus the wrong ones not worse.

    scores: (q, c) float32 on the CPU, a few million in all, since a row of many hits is sorted as int64. hits: (q, c)
    bool. skip: (q, c) bool, candidates that are in no list. They are no hits, and their scores are -inf. A row finds
    nothing where all scores in its list are the same and some candidate is wrong. Raises ValueError where the shapes
    differ.
    """
    check_shapes(scores, hits)
    count = torch.from_numpy(hits.numpy().sum(axis=1))  # numpy counts ten times faster than torch
    if not scores.shape[1] or not len(scores):
        return Places(count[:0], count[:0], count[:0], count)
    scores = replace_nan(scores, hits)
    found = has_found(scores, hits, skip)
    parts = []
    for rows, place in (((count <= FEW), _by_comparison), ((count > FEW), _by_sort)):
        at = (rows & found).nonzero().flatten()
        if len(at):
            some, right = (scores, hits) if len(at) == len(scores) else (scores[at], hits[at])
            row, number, places = place(some, right, count[at])
            parts.append((at[row], number, places))
    if not parts:
        return Places(count[:0], count[:0], count[:0], count)
    row, number, places = (torch.cat(x) for x in zip(*parts, strict=True))
    order = row.argsort(stable=True)
    return Places(row[order], number[order], places[order], count)


def _by_comparison(scores: Tensor, hits: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return row, number and place (h,) of the hits, by one comparison of all candidates with each of them."""
    c = scores.shape[1]
    flat = torch.from_numpy(hits.numpy().ravel().nonzero()[0])
    row, number = flat // c, _numbers(count)
    best = torch.full((len(scores), int(count.max())), -math.inf)  # (q, hits)
    best[row, number - 1] = scores.flatten()[flat]
    best = best.sort(dim=1, descending=True).values
    real = torch.arange(best.shape[1]) < count[:, None]  # of equals at -inf, these are the hits
    rows, by_number = scores.numpy(), best.numpy()
    places = torch.zeros(best.shape, dtype=torch.int64)
    for n in range(best.shape[1]):
        not_worse = torch.from_numpy((rows >= by_number[:, n, None]).sum(axis=1))
        right = (real & (best >= best[:, n, None])).sum(dim=1)
        places[:, n] = n + 1 + not_worse - right
    return row, number, places[real]


def _by_sort(scores: Tensor, hits: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return row, number and place (h,) of the hits, by one sort of every row.

    Score and hit are packed into one integer, which numpy sorts faster than torch sorts two tensors.
    """
    bits = (scores + 0.0).view(torch.int32)  # + 0.0: no negative zero
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # integers in the order of the floats
    keys = ((ordered.long() << 1) | (~hits).long()).numpy()  # of equals, the wrong one is higher
    keys.sort(axis=1)
    row, place = torch.from_numpy((keys[:, ::-1] & 1) == 0).nonzero(as_tuple=True)
    return row, _numbers(count), place + 1


def _numbers(count: Tensor) -> Tensor:
    """Return 1, 2, … within each row, as (h,), for rows of so many hits (q,)."""
    first = count.cumsum(0) - count
    return torch.arange(1, int(count.sum()) + 1) - first.repeat_interleave(count)
