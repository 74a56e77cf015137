"""Any-to-any retrieval: for each row of one modality, where the rows of another that belong to it come in the order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations

import torch
from torch import Tensor

from align.embedding.tables import first_rows, vectors
from align.evaluation.composed import composed_queries
from align.evaluation.hits import Captions, Rule
from align.evaluation.precision import mean_precision
from align.metrics import mean_reciprocal_rank, median_rank, ranks, recall_at
from align.scoring import How, choose, score
from align.values import Embeddings, Scores, TermInfo

cells = 1 << 22  # scores held at a time


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
    """Scores of q queries against c candidates, in chunks; a query without a hit among the candidates does not count.

    Args:
        query: {modality: (q, D)}; with several modalities, row i of each is one query. Where the query is the modality
            `of` itself, row i is candidate i, and never its own match.
        candidates: (c, D), of the modality `of`.
        query_sample, candidate_sample: (q,) and (c,), the sample of each row; -1 is a distractor. A rule of one's own
            may ask for other keys: what is below 0 does not ask.
        hits: the hit rule, see ``align.evaluation.hits``.
        how, terms: see ``align.score``. None: as ``align.scoring.choose`` says.
        precision: whether the mean average precision is wanted too; it costs a sort of every row of scores.

    Returns recall@k, median_rank, map and chance (the expected recall@1 of a blind order); {} where no query has a hit.
    Scores are computed in float64 and compared in float32, so that equal rows tie, and a tie never helps.
    """
    how = how or choose(terms, query, of)
    asks = (query_sample >= 0).nonzero().flatten()
    itself = list(query) == [of]
    found, chance, total, queries = [], 0.0, 0.0, 0
    targets = candidates.double()
    step = max(1, cells // max(1, len(candidates)))
    for rows in asks.split(step):
        part = {m: x[rows].double() for m, x in query.items()}
        scores = score(part, targets, how, of=of, terms=terms).float()  # (q, c)
        hit = hits(query_sample[rows], candidate_sample)
        if itself:
            own = (torch.arange(len(rows)), rows)
            scores[own], hit[own] = -torch.inf, False
        has = hit.any(dim=1)
        if not has.any():
            continue
        scores, hit = scores[has], hit[has]
        found.append(ranks(scores, hit))
        chance += float(hit.double().sum() / (len(candidates) - itself))
        queries += len(scores)
        if precision:
            total += _precision(scores, hit, found[-1]) * len(scores)
    if not found:
        return {}
    place = torch.cat(found)
    out = {f"recall@{k}": recall_at(place, k) for k in ks}
    out["median_rank"] = median_rank(torch.where(place > 0, place, len(candidates)))  # nothing found: the last
    if precision:
        out["map"] = total / queries
    return out | {"chance": chance / queries}


def _precision(scores: Tensor, hit: Tensor, place: Tensor) -> float:
    """With one hit a query, the average precision is one over its rank: no sort is needed."""
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
    """``PREFIX/image_to_text/recall@10``, … for all ordered pairs of different modalities.

    A term of three or more modalities (Symile, GRAM, TRIANGLE) adds ``audio+image_to_text/…``: for each of its
    modalities, the others together ask for it, over the samples that have them all.
    """
    scores: Scores = {}
    present = sorted(m for m in embeddings if embeddings[m].n)
    for of in present:
        rows = embeddings[of]
        targets = vectors(embeddings, of)
        asked: list[tuple[str, dict[str, Tensor], Tensor]] = [
            (m, {m: vectors(embeddings, m)}, embeddings[m].sample)
            for m, other in permutations(present, 2)
            if other == of
        ]
        for together in composed_queries(terms, of):
            if set(together) <= set(present):
                asked.append(("+".join(together), *first_rows(embeddings, together)))
        for name, query, samples in asked:
            asks, answers, same = samples, rows.sample, hits
            if isinstance(same, Captions):
                asks, answers, same = same.between(list(query), samples, of, rows.sample)
            found = retrieval(query, targets, asks, answers, same, of=of, terms=terms, ks=ks, precision=precision)
            scores |= {f"{prefix}{name}_to_{of}/{key}": value for key, value in found.items()}
    return scores
