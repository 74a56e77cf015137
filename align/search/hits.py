"""The hits of an order: near duplicates folded, each with its item and the cosine of every part."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from align.search.hybrid import Ranking
from align.search.index import Index
from align.search.item import Hit
from align.search.near import DEEPEST, fold_near
from align.search.rule import Rule
from align.search.shift import Shift

Groups = list[list[int]]
"""Samples in groups of near duplicates, each with its best first."""


def read_rows(index: Index, of: str, samples: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows (n, D) of samples, and the samples (n,) that they are of."""
    values, sample = index.rows(of, samples)[:2]
    if not isinstance(values, Tensor):
        raise TypeError("an index holds tensors (n, D)")
    return values, sample


def stand_alone(ranking: Ranking) -> tuple[Ranking, Groups]:
    """Return an order with each sample as a group."""
    return ranking, [[number] for number in ranking.samples.tolist()]


def fold_ranking(rank: Callable[[int], Ranking], index: Index, of: str, k: int, near: float) -> tuple[Ranking, Groups]:
    """Return an order deep enough for k groups of near duplicates, and these groups.

    rank: returns the best samples, as many as it is asked for. near: see ``fold_near``.
    """
    depth = k
    while True:
        ranking = rank(depth)
        groups = fold_near(*read_rows(index, of, ranking.samples), ranking.samples.tolist(), near)
        if len(groups) >= k or len(ranking.samples) < depth or depth >= max(k, DEEPEST):
            return ranking, groups[:k]
        depth = min(depth * 4, max(k, DEEPEST))


def make_hits(
    ranking: Ranking,
    groups: Groups,
    index: Index,
    of: str,
    rule: Rule | None,
    names: Sequence[str],
    vectors: Sequence[Tensor],
    shift: Shift | None = None,
) -> list[Hit]:
    """Return a hit for each group, by its best sample. Raises KeyError where a sample has been deleted meanwhile.

    rule: None for a search of the captions alone, which has no cosines. names, vectors: of the query's parts, (D,).
    shift: the correction for hubs by which a sample's best row was chosen.
    """
    numbers = [group[0] for group in groups]
    score = dict(zip(ranking.samples.tolist(), ranking.scores.tolist(), strict=True))
    cosines: dict[int, dict[str, float]] = {}
    if rule is not None and numbers:
        _, found, places = rule.best_rows(*(rows := read_rows(index, of, numbers)), shift)
        asked = F.normalize(torch.stack([v.detach().cpu().float() for v in vectors]), dim=1)
        table = F.normalize(rows[0][places].float(), dim=1) @ asked.T  # (m, parts)
        cosines = {n: dict(zip(names, row, strict=True)) for n, row in zip(found.tolist(), table.tolist(), strict=True)}
    return [
        Hit(rank, score[number], number, item, cosines.get(number, {}), tuple(same), ranking.words.get(number))
        for rank, ((number, *same), item) in enumerate(zip(groups, index.items(numbers), strict=True), 1)
    ]
