"""Retrieval in all directions: every modality asks for every other one, and several together for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import permutations
from typing import NamedTuple

import torch
from torch import Tensor

from align.embedding.tables import first_places, vectors
from align.evaluation.composed import composed_queries
from align.evaluation.hits import Captions, Rule
from align.evaluation.ranking import Asked, GradedMetrics, HitMetrics, Ranked, rank_queries
from align.values import Embeddings, TermInfo

Metrics = Callable[[Rule, bool], HitMetrics | GradedMetrics]
"""(hit rule, True where a modality asks for itself) -> the metrics of a direction."""


def directions(
    embeddings: Embeddings,
    hits: Rule | Captions,
    metrics: Metrics,
    *,
    terms: Sequence[TermInfo],
    distractors: Embeddings | None = None,
    intra: bool = False,
) -> dict[tuple[str, str], Ranked]:
    """Return (query, answer) -> the values, for all ordered pairs of modalities where a query has a hit.

    ``row`` is the sample of each query. A term of three or more modalities (Symile, GRAM, TRIANGLE) adds
    ``audio+image``: for each of its modalities, the others together ask for it, over the samples that have them all.
    distractors: other candidates of each modality, which are no hits (equal captions apart, see ``Captions``) and ask
    nothing. intra: each modality asks for itself too.
    """
    out: dict[tuple[str, str], Ranked] = {}
    for one in list_directions(embeddings, hits, terms=terms, distractors=distractors, intra=intra):
        found = rank_queries(one.asked, metrics(one.rule, one.itself), terms=terms)
        if found.scores:
            out["+".join(one.names), one.asked.of] = found._replace(row=one.sample[found.row])
    return out


class Direction(NamedTuple):
    """Queries of some modalities for one. rule: over the keys of ``asked``. sample: (q,) the sample of each query."""

    names: list[str]
    asked: Asked
    rule: Rule
    sample: Tensor

    @property
    def itself(self) -> bool:
        """True where a modality asks for itself."""
        return self.names == [self.asked.of]


def list_directions(
    embeddings: Embeddings,
    hits: Rule | Captions,
    *,
    terms: Sequence[TermInfo],
    distractors: Embeddings | None = None,
    intra: bool = False,
) -> Iterator[Direction]:
    """Yield all ordered pairs of modalities, and queries of several modalities. See ``directions``."""
    present = sorted(m for m in embeddings if embeddings[m].n)
    for of in present:
        candidates, answers, content = _candidates(embeddings, distractors, of)
        for names, rows, samples in _queries(embeddings, present, of, terms, intra):
            asks, keys, rule = samples, answers, hits
            if isinstance(rule, Captions):
                asks, keys, rule = rule.between(names, samples, of, answers)
            query = {m: vectors(embeddings, m) for m in names}
            asked = Asked(query, rows, asks, of, candidates, keys, content if names == [of] else None)
            yield Direction(names, asked, rule, samples)


def _queries(
    embeddings: Embeddings, present: Sequence[str], of: str, terms: Sequence[TermInfo], intra: bool
) -> Iterator[tuple[list[str], dict[str, Tensor], Tensor]]:
    """Yield (modalities that ask, the rows of each that do, their samples (q,)) for candidates of a modality."""
    for m in [of] * intra + [m for m, other in permutations(present, 2) if other == of]:
        yield [m], {m: torch.arange(embeddings[m].n)}, embeddings[m].sample
    for together in composed_queries(terms, of):
        if set(together) <= set(present):
            yield list(together), *first_places(embeddings, together)


def _candidates(embeddings: Embeddings, distractors: Embeddings | None, of: str) -> tuple[list[Tensor], Tensor, Tensor]:
    """Return tables of candidates that follow one another, the sample of each (c,) and its content (c,), or -1."""
    parts = [embeddings[of]]
    if distractors is not None and (more := distractors.get(of)) is not None and more.n:
        parts.append(more._replace(sample=torch.full_like(more.sample, -1)))
    unknown = [torch.full_like(part.sample, -1) if part.content is None else part.content for part in parts]
    tables = [vectors(table, of) for table in (embeddings, distractors) if table is not None and of in table]
    return tables[: len(parts)], torch.cat([part.sample for part in parts]), torch.cat(unknown)
