"""Any-to-any retrieval: the rank of the right rows of one modality for each row of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import NamedTuple, final

import torch
from torch import Tensor

from align.embedding.embed import vectors
from align.evaluation.blocks import score_blocks
from align.evaluation.composed import composed, tuples
from align.evaluation.findings import Findings
from align.evaluation.hits import Captions, Rule, by_label
from align.evaluation.notes import retrieval_facts
from align.evaluation.retrieval_section import retrieval_section
from align.evaluation.space import Space
from align.metrics import mean_precision, mean_reciprocal_rank, median_rank, ranks, recall_at
from align.scoring import How, choose
from align.values import Embeddings, Scores, TermInfo


class Direction(NamedTuple):
    """Retrieval of one modality by another. rank, row: (q,) of the queries that have a hit."""

    scores: Scores
    rank: Tensor
    row: Tensor


def retrieval(
    query: Mapping[str, Tensor],
    candidates: Tensor,
    query_sample: Tensor,
    candidate_sample: Tensor,
    hits: Rule,
    *,
    of: str,
    how: How | None = None,
    terms: Sequence[TermInfo] = (),
    ks: Sequence[int] = (1, 5, 10),
    precision: bool = True,
) -> Scores:
    """Return scores of q queries against c candidates. A query without a hit among the candidates does not count.

    Args:
        query: {modality: (q, D)}. Of several modalities, row i of each is one query. Where the query is the modality
            `of` itself, row i is candidate i, and never its own match.
        candidates: (c, D), of the modality `of`.
        query_sample, candidate_sample: (q,) and (c,), the sample of each row. -1 is a distractor. Another rule may take
            other keys, where a query below 0 does not ask.
        hits: the hit rule. See ``align.evaluation.hits``.
        how, terms: see ``align.score``. None: as ``align.scoring.choose`` says.
        precision: measures the mean average precision too, which costs a sort of every row of scores.

    Returns recall@k, median_rank, map and chance (the expected recall@1 of a blind order), or {} where no query has a
    hit. Scores are computed in float64 and compared in float32, so that equal rows tie, and a tie never helps.
    """
    return _retrieve(
        query,
        candidates,
        query_sample,
        candidate_sample,
        hits,
        of=of,
        how=how,
        terms=terms,
        ks=ks,
        precision=precision,
    ).scores


def _retrieve(
    query: Mapping[str, Tensor],
    candidates: Tensor,
    query_sample: Tensor,
    candidate_sample: Tensor,
    hits: Rule,
    *,
    of: str,
    how: How | None = None,
    terms: Sequence[TermInfo],
    ks: Sequence[int],
    precision: bool,
) -> Direction:
    how = how or choose(terms, query, of)
    asks = (query_sample >= 0).nonzero().flatten()
    itself = list(query) == [of]
    found, kept, chance, total, queries = [], [], 0.0, 0.0, 0
    asking = {m: x[asks] for m, x in query.items()}
    for block, scores in score_blocks(asking, candidates, how, of=of, terms=terms):
        rows = asks[block]
        hit = hits(query_sample[rows], candidate_sample)
        if itself:
            at = (torch.arange(len(rows)), rows)
            scores[at], hit[at] = -torch.inf, False
        has = hit.any(dim=1)
        if not has.any():
            continue
        scores, hit = scores[has], hit[has]
        found.append(ranks(scores, hit))
        kept.append(rows[has])
        chance += float(hit.double().sum() / (len(candidates) - itself))
        queries += len(scores)
        if precision:
            total += _precision(scores, hit, found[-1]) * len(scores)
    if not found:
        return Direction({}, asks[:0], asks[:0])
    place = torch.cat(found)
    out = {f"recall@{k}": recall_at(place, k) for k in ks}
    out["median_rank"] = median_rank(torch.where(place > 0, place, len(candidates)))  # nothing found: the last
    if precision:
        out["map"] = total / queries
    return Direction(out | {"chance": chance / queries}, place, torch.cat(kept))


def _precision(scores: Tensor, hit: Tensor, place: Tensor) -> float:
    """Return the mean average precision. With one hit a query it is one over the rank, and no sort is needed."""
    if bool((hit.sum(dim=1) == 1).all()):
        return mean_reciprocal_rank(place)
    return mean_precision(scores, hit, place)


def retrieval_shards(
    embeddings: Embeddings,
    hits: Rule | Captions,
    *,
    terms: Sequence[TermInfo] = (),
    ks: Sequence[int] = (1, 5, 10),
    prefix: str = "",
    precision: bool = True,
) -> Scores:
    """Return ``PREFIX/image_to_text/recall@10``, … for all ordered pairs of modalities. See ``directions``."""
    found = directions(embeddings, hits, terms=terms, ks=ks, precision=precision)
    return _flat(found, prefix)


def directions(
    embeddings: Embeddings, hits: Rule | Captions, *, terms: Sequence[TermInfo], ks: Sequence[int], precision: bool
) -> dict[tuple[str, str], Direction]:
    """Return (query, answer) -> the scores, for all ordered pairs of modalities where a query has a hit.

    ``row`` is the sample of each query. A term of three or more modalities (Symile, GRAM, TRIANGLE) adds
    ``audio+image``: for each of its modalities, the others together ask for it, over the samples that have them all.
    """
    out: dict[tuple[str, str], Direction] = {}
    present = sorted(m for m in embeddings if embeddings[m].n)
    for of in present:
        rows = embeddings[of]
        targets = vectors(embeddings, of)
        asked: list[tuple[str, dict[str, Tensor], Tensor]] = [
            (m, {m: vectors(embeddings, m)}, embeddings[m].sample)
            for m, other in permutations(present, 2)
            if other == of
        ]
        for together in composed(terms, of):
            if set(together) <= set(present):
                asked.append(("+".join(together), *tuples(embeddings, together)))
        for name, query, samples in asked:
            asks, answers, same = samples, rows.sample, hits
            if isinstance(same, Captions):
                asks, answers, same = same.between(list(query), samples, of, rows.sample)
            found = _retrieve(query, targets, asks, answers, same, of=of, terms=terms, ks=ks, precision=precision)
            if found.scores:
                out[name, of] = found._replace(row=samples[found.row])
    return out


@final
class Retrieval:
    """``image_to_text/recall@10``, … by the hit rule, and under ``class/`` by the classes of each attribute."""

    name = "retrieval"
    text = "text"

    def run(self, space: Space) -> Findings:
        """Return recall@k, median rank, mean average precision and chance of every ordered pair of modalities."""
        table, ks = space.table(), space.ks
        rules: dict[str, Rule | Captions] = {"": space.hit.rule}
        for name, names in space.classes.items():
            rules["class/" if len(space.classes) == 1 else f"class/{name}/"] = by_label(table, name, list(names))
        found = {
            prefix: directions(table, same, terms=space.model.terms, ks=ks, precision=not prefix)
            for prefix, same in rules.items()
        }
        scores = {key: value for prefix, some in found.items() for key, value in _flat(some, prefix).items()}
        samples = {
            f"{prefix}{query}_to_{of}/recall@{k}": (((one.rank > 0) & (one.rank <= k)).float(), one.row)
            for prefix, some in found.items()
            for (query, of), one in some.items()
            for k in ks
        }
        values = {prefix: {pair: one.scores for pair, one in some.items()} for prefix, some in found.items() if some}
        section = retrieval_section(values, space.hit.text, space.ks) if values else None
        return Findings(scores, retrieval_facts(space, scores, self.text), section, samples)


def _flat(found: Mapping[tuple[str, str], Direction], prefix: str) -> Scores:
    return {
        f"{prefix}{query}_to_{of}/{key}": value
        for (query, of), one in found.items()
        for key, value in one.scores.items()
    }
