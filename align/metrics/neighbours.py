"""Classification by the nearest neighbours: they vote, the nearer the more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from align.metrics.recall import check_k

QUERIES, ROWS = 2048, 16384  # of a block of cosines
CONSTANT = 1e-6  # cosines of a query that lie no further apart have found nothing


class _Found(NamedTuple):
    """Neighbours of some queries. cosine, label: (q, k), the nearest first. apart: (q,) farthest minus nearest."""

    cosine: Tensor
    label: Tensor
    apart: Tensor


def vote_right(
    query: Tensor,
    target: Tensor,
    rows: Tensor,
    label: Tensor,
    classes: int,
    ks: Sequence[int] = (10, 20, 100, 200),
    temperature: float = 0.07,
) -> dict[int, Tensor]:
    """Return k -> (q,) bool: true where the k nearest rows by cosine vote for the right class alone.

    A neighbour's vote is exp(cosine / temperature) (Wu et al. 2018, arXiv:1805.01978, section 3.4, and DINOv2, Oquab et
    al. 2023, arXiv:2304.07193, section 7.1). Ties never help: of equal cosines at the k-th place the worst for the
    query are its neighbours, two classes with equal votes are no answer, and neither are cosines that are all equal.

    query: (q, D). target: (q,) int64. rows: (n, D). label: (n,) int64. Both kinds of label are 0..classes-1. A k above
    n is that of all n rows. Raises ValueError for a k below 1 and for no rows.
    """
    for k in ks:
        check_k(k)
    if not len(rows):
        raise ValueError("neighbours vote where there are rows; got none")
    kept = {k: min(k, len(rows)) for k in ks}
    parts: dict[int, list[Tensor]] = {k: [torch.zeros(0, dtype=torch.bool)] for k in ks}
    for start in range(0, len(query) if kept else 0, QUERIES):
        asked, right = F.normalize(query[start : start + QUERIES].float(), dim=1), target[start : start + QUERIES]
        found = _nearest(asked, rows, label, max(kept.values()) + 1)
        for k, n in kept.items():
            parts[k].append(_vote(asked, right, rows, label, classes, n, temperature, found))
    return {k: torch.cat(part) for k, part in parts.items()}


def _cosines(asked: Tensor, rows: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield (first row, (q, some) cosines). The blocks are the same in every pass, and so are the bits."""
    for start in range(0, len(rows), ROWS):
        yield start, asked @ F.normalize(rows[start : start + ROWS].float(), dim=1).T


def _nearest(asked: Tensor, rows: Tensor, label: Tensor, k: int) -> _Found:
    near = torch.zeros(len(asked), 0)
    of = torch.zeros(len(asked), 0, dtype=torch.int64)
    low = torch.full((len(asked),), torch.inf)
    for start, cosine in _cosines(asked, rows):
        low = torch.minimum(low, cosine.amin(dim=1))
        best = cosine.topk(min(k, cosine.shape[1]), dim=1)
        near, of = torch.cat([near, best.values], dim=1), torch.cat([of, label[start + best.indices]], dim=1)
        near, order = near.sort(dim=1, descending=True, stable=True)
        near, of = near[:, :k], of.gather(1, order)[:, :k]
    return _Found(near, of, near[:, 0] - low)


def _vote(
    asked: Tensor,
    target: Tensor,
    rows: Tensor,
    label: Tensor,
    classes: int,
    k: int,
    temperature: float,
    found: _Found,
) -> Tensor:
    """Return (q,) bool for one k, where ``found`` has the k + 1 nearest at least, or all rows."""
    near = found.cosine.double()
    weight = ((near[:, :k] - near[:, :1]) / temperature).exp()  # (q, k), the nearest has 1
    tied = torch.zeros(len(near), dtype=torch.bool)
    if k < near.shape[1]:
        tied = near[:, k - 1] == near[:, k]
    sure = ~tied[:, None] | (near[:, :k] > near[:, k - 1 : k])  # (q, k)
    votes = torch.zeros(len(near), classes, dtype=torch.float64)
    votes.scatter_add_(1, found.label[:, :k], weight * sure)
    if tied.any():
        at = tied.nonzero().flatten()
        equal = _count_equal(asked, rows, label, classes, found.cosine[:, k - 1], at)  # (t, classes)
        slots, last = k - sure[at].sum(dim=1, keepdim=True), weight[at, -1:]  # (t, 1)
        is_right = F.one_hot(target[at], classes).bool()
        left = (slots - equal.masked_fill(is_right, 0).sum(dim=1, keepdim=True)).clamp(min=0)
        votes[at] += last * torch.where(is_right, left, torch.minimum(slots, equal))
    wrong = votes.scatter(1, target[:, None], -torch.inf).amax(dim=1)
    return (votes.gather(1, target[:, None])[:, 0] > wrong) & ((found.apart > CONSTANT) | (len(rows) == 1))


def _count_equal(asked: Tensor, rows: Tensor, label: Tensor, classes: int, value: Tensor, at: Tensor) -> Tensor:
    """Return (t, classes): the rows of each class whose cosine with the query ``at`` (t,) is its ``value`` (q,)."""
    count = torch.zeros(len(at), classes, dtype=torch.int64)
    for start, cosine in _cosines(asked, rows):
        equal = (cosine[at] == value[at, None]).long()
        count.scatter_add_(1, label[start : start + cosine.shape[1]].expand(len(at), -1), equal)
    return count
