"""The ranks of the right candidates for each query of one direction, and the numbers that follow from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor

from align.evaluation.blocks import score_blocks
from align.evaluation.hits import Rule, equal_keys
from align.metrics import (
    average_precisions,
    graded_gains,
    hit_gains,
    hit_places,
    ranks,
    reciprocal_ranks,
    weighted_median,
)
from align.scoring import How, choose
from align.values import Scores, TermInfo

CELLS = 1 << 22  # scores that the metrics read at a time


class Asked(NamedTuple):
    """Queries and candidates of one direction.

    query: modality -> its table (n, D). rows: modality -> (q,), the row of its table that each query takes. sample:
    (q,), the key of each query for the hit rule, below 0 for one that does not ask. candidates: tables of the modality
    ``of`` that follow one another, c rows in all. answers: (c,), their keys.
    content: (c,) numbers, equal for candidates of equal content, where the query is the modality ``of`` itself, row i
    being candidate i. Neither a row nor its copies are in its list. None: another modality asks.
    """

    query: Mapping[str, Tensor]
    rows: Mapping[str, Tensor]
    sample: Tensor
    of: str
    candidates: Sequence[Tensor]
    answers: Tensor
    content: Tensor | None = None


class Ranked(NamedTuple):
    """Values of the queries that have a hit.

    values: metric -> (q,), whose mean is the score, or for "median_rank" the median. row: (q,) places among all
    queries that were asked. chance: the expected recall@1 of a blind order. nan of no queries.
    """

    values: dict[str, Tensor]
    row: Tensor
    chance: float

    @property
    def scores(self) -> Scores:
        """Metric -> the score, and chance. {} of no queries."""
        if not len(self.row):
            return {}
        found = {metric: score_of(metric, value) for metric, value in self.values.items()}
        return found | {"chance": self.chance} if "median_rank" in found else found


def score_of(metric: str, value: Tensor) -> float:
    """Return the score of the queries' values (q,): their mean, or of ranks the lower median."""
    if metric == "median_rank":
        return float(weighted_median(value, torch.ones(1, len(value), dtype=torch.float64)))
    return float(value.double().mean())


@final
class HitMetrics:
    """Recall@k, rank, reciprocal rank and nDCG@k by a hit rule, and average precision where it is asked for.

    A rank of a query that found nothing is that of the last candidate.
    """

    def __init__(self, hits: Rule, ks: Sequence[int], ndcg: int, precision: bool):
        self.hits, self.ks, self.ndcg, self.precision = hits, ks, ndcg, precision

    def relevance(self, sample: Tensor, answers: Tensor) -> Tensor:
        """Return (q, c) bool, the hits."""
        return self.hits(sample, answers)

    def measure(self, scores: Tensor, hit: Tensor, skip: Tensor | None) -> dict[str, Tensor]:
        """Return metric -> (q,) of some queries."""
        if self.precision:
            places = hit_places(scores, hit, skip)
            rank, gain = places.rank, hit_gains(places, self.ndcg)
            more = {"map": average_precisions(places)}
        else:
            rank, gain, more = ranks(scores, hit, skip), graded_gains(scores, hit.byte(), self.ndcg, skip), {}
        found = {f"recall@{k}": ((rank > 0) & (rank <= k)).float() for k in self.ks}
        last = scores.shape[1] if skip is None else scores.shape[1] - skip.sum(dim=1)
        found["median_rank"] = torch.where(rank > 0, rank, last).float()
        return found | more | {"mrr": reciprocal_ranks(rank), f"ndcg@{self.ndcg}": gain}


@final
class GradedMetrics:
    """nDCG@k, where a candidate's gain is the number of rules by which it is a hit."""

    def __init__(self, rules: Sequence[Rule], ndcg: int):
        self.rules, self.ndcg = rules, ndcg

    def relevance(self, sample: Tensor, answers: Tensor) -> Tensor:
        """Return (q, c) uint8, the gains."""
        return torch.stack([hits(sample, answers) for hits in self.rules]).sum(dim=0, dtype=torch.uint8)

    def measure(self, scores: Tensor, levels: Tensor, skip: Tensor | None) -> dict[str, Tensor]:
        """Return metric -> (q,) of some queries."""
        return {f"ndcg@{self.ndcg}": graded_gains(scores, levels, self.ndcg, skip)}


def rank_queries(
    asked: Asked, metrics: HitMetrics | GradedMetrics, *, how: How | None = None, terms: Sequence[TermInfo] = ()
) -> Ranked:
    """Return the values of all queries that have a hit among the candidates. The others do not count.

    how, terms: see ``align.score``. None: as ``align.scoring.choose`` says. Scores, hits and metrics are computed a
    block at a time.
    """
    found: dict[str, list[Tensor]] = {}
    kept, chance = [asked.sample[:0]], 0.0
    for block in score_queries(asked, metrics.relevance, how=how, terms=terms):
        for metric, value in metrics.measure(block.scores, block.levels, block.skip).items():
            found.setdefault(metric, []).append(value)
        c = block.scores.shape[1]
        listed = c if block.skip is None else c - block.skip.sum(dim=1)
        chance += float((block.right.double() / listed).sum())
        kept.append(block.at)
    row = torch.cat(kept)
    return Ranked({metric: torch.cat(parts) for metric, parts in found.items()}, row, chance / max(1, len(row)))


class Block(NamedTuple):
    """Queries of a direction that have a hit.

    at: (q,) places among all queries. scores: (q, c) float32. levels: (q, c) relevance, 0 for no hit. skip: (q, c)
    bool, candidates in no list, whose scores are -inf, or None. right: (q,) hits of each.
    """

    at: Tensor
    scores: Tensor
    levels: Tensor
    skip: Tensor | None
    right: Tensor


def score_queries(
    asked: Asked, relevance: Rule, *, how: How | None = None, terms: Sequence[TermInfo] = ()
) -> Iterator[Block]:
    """Yield the queries that have a hit among the candidates, with the scores of all candidates, a block at a time.

    relevance: (keys of queries (q,), keys of candidates (c,)) -> (q, c). how, terms: as of ``rank_queries``.
    """
    how = how or choose(terms, asked.query, asked.of)
    asks = (asked.sample >= 0).nonzero().flatten()
    rows = {m: at[asks] for m, at in asked.rows.items()}
    step = max(1, CELLS // max(1, len(asked.answers)))
    for block, scores in score_blocks(asked.query, asked.candidates, how, of=asked.of, terms=terms, rows=rows):
        for at, some in zip(asks[block].split(step), scores.split(step), strict=True):
            skip = None if asked.content is None else _copies(at, asked.content)
            levels = relevance(asked.sample[at], asked.answers)
            if skip is not None:
                some, levels = some.masked_fill(skip, -torch.inf), levels.masked_fill(skip, 0)
            right = torch.from_numpy((levels.numpy() > 0).sum(axis=1))
            has = right > 0
            if not has.any():
                continue
            if not has.all():
                at, some, levels, right = at[has], some[has], levels[has], right[has]
                skip = None if skip is None else skip[has]
            yield Block(at, some, levels, skip, right)


def _copies(rows: Tensor, content: Tensor) -> Tensor:
    """Return (q, c) bool, true where a candidate is the query's row itself or one of equal content."""
    skip = equal_keys(content[rows], content)
    skip[torch.arange(len(rows)), rows] = True
    return skip
