"""Candidates of a query cut down to its hits and the negatives that a model finds hardest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from align.evaluation.ranking import Asked, Block, HitMetrics, Ranked, score_queries
from align.scoring import How
from align.values import TermInfo


def find_hardest(blocks: Iterator[Block], queries: int, n: int) -> Tensor:
    """Return (queries, n) int64: the n candidates that are no hits with the highest scores, -1 where there are fewer.

    Of equal scores the first candidate counts. A query without a hit has -1 alone. blocks: of ``score_queries``.
    """
    found = torch.full((queries, n), -1)
    for block in blocks:
        hit = block.levels > 0
        out = hit if block.skip is None else hit | block.skip
        scores = block.scores.masked_fill(out | block.scores.isnan(), -torch.inf)
        order = scores.sort(dim=1, descending=True, stable=True).indices[:, :n]
        order = order.masked_fill(out.gather(1, order), -1)
        found[block.at, : order.shape[1]] = order
    return found


def keep_hardest(block: Block, hardest: Tensor) -> Block:
    """Return the block where all candidates but its hits and ``hardest`` (queries, n) are in no list."""
    c = block.scores.shape[1]
    places = hardest[block.at]
    kept = torch.zeros(len(block.at), c + 1, dtype=torch.bool)  # the last is where -1 goes
    kept.scatter_(1, torch.where(places < 0, c, places), torch.ones_like(places, dtype=torch.bool))
    skip = ~(kept[:, :c] | (block.levels > 0))
    if block.skip is not None:
        skip |= block.skip
    return block._replace(scores=block.scores.masked_fill(skip, -torch.inf), skip=skip)


def rank_both(
    asked: Asked,
    metrics: HitMetrics,
    hardest: Tensor,
    *,
    how: How | None = None,
    terms: Sequence[TermInfo] = (),
) -> tuple[Ranked, Ranked]:
    """Return the values of the queries in the full gallery, and in the one of ``hardest``. Their ``chance`` is nan.

    hardest: (q, n) of ``find_hardest``. The queries are the same, as hits stay.

    """
    found: tuple[dict[str, list[Tensor]], dict[str, list[Tensor]]] = ({}, {})
    kept = [asked.sample[:0]]
    for block in score_queries(asked, metrics.relevance, how=how, terms=terms):
        kept.append(block.at)
        for values, one in zip(found, (block, keep_hardest(block, hardest)), strict=True):
            for metric, value in metrics.measure(one.scores, one.levels, one.skip).items():
                values.setdefault(metric, []).append(value)
    row = torch.cat(kept)
    full, cut = ({metric: torch.cat(parts) for metric, parts in values.items()} for values in found)
    return Ranked(full, row, torch.nan), Ranked(cut, row, torch.nan)
