"""Measures of a run by judgements, with the definitions of trec_eval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch


class RunScores(NamedTuple):
    """Measures of a run. scores: measure -> mean over the queries. values: measure -> a value of each query.

    queries: the judged queries, in the order of the values. notes: lines about queries that one of the files lacks.
    """

    scores: dict[str, float]
    values: dict[str, list[float]]
    queries: list[str]
    notes: list[str]


def score_run(
    run: Mapping[str, Mapping[str, float]], qrels: Mapping[str, Mapping[str, int]], ks: Sequence[int] = (1, 5, 10)
) -> RunScores:
    """Return map, recip_rank, and for each k success_k, P_k, recall_k and ndcg_cut_k, as trec_eval names them.

    Documents are in the order of their scores, in float32. Of equal scores the docid that is higher as a string stands
    first, as in trec_eval: a run with ties has other scores here than in ``retrieval``, where a tie never helps. The
    gain of nDCG is the relevance, its discount log2(1 + place). Every judged query counts (trec_eval -c): one without a
    list has 0. Raises ValueError for a k below 1, for no judgements, and where no query of the run is judged.
    """
    if any(k < 1 for k in ks):
        raise ValueError(f"the measures at k need k >= 1, got {list(ks)}")
    queries = list(qrels)
    if not queries:
        raise ValueError("there are no judgements")
    if not set(run) & set(qrels):
        first, other = next(iter(run), None), queries[0]
        raise ValueError(f"no query of the run is judged: it has {first!r}, …, and the qrels have {other!r}, …")
    values: dict[str, list[float]] = {}
    for query in queries:
        for measure, value in _score_query(order(run.get(query, {})), qrels[query], ks).items():
            values.setdefault(measure, []).append(value)
    notes = []
    if missing := [query for query in queries if query not in run]:
        notes.append(f"{len(missing):,} of {len(queries):,} judged queries have no list: they count 0 (trec_eval -c)")
    if unjudged := [query for query in run if query not in qrels]:
        notes.append(f"{len(unjudged):,} queries of the run are not judged: they do not count")
    if empty := [query for query in queries if max(qrels[query].values(), default=0) < 1]:
        notes.append(f"{len(empty):,} of {len(queries):,} judged queries have no relevant document: they count 0")
    means = {measure: math.fsum(found) / len(queries) for measure, found in values.items()}
    return RunScores(means, values, queries, notes)


def order(scores: Mapping[str, float]) -> list[str]:
    """Return the documents of a query, the best first: by score in float32, then by docid, the highest first.

    >>> order({"a": 1.0, "b": 1.0, "c": 2.0})
    ['c', 'b', 'a']
    """
    single = torch.tensor(list(scores.values()), dtype=torch.float64).float().tolist()
    return [name for _, name in sorted(zip(single, scores, strict=True), reverse=True)]


def _score_query(documents: Sequence[str], judged: Mapping[str, int], ks: Sequence[int]) -> dict[str, float]:
    gains = [max(0, judged.get(document, 0)) for document in documents]
    ideal = sorted((gain for gain in judged.values() if gain > 0), reverse=True)
    places = [place for place, gain in enumerate(gains, 1) if gain]
    total = max(1, len(ideal))
    found = {
        "map": sum(number / place for number, place in enumerate(places, 1)) / total,
        "recip_rank": 1 / places[0] if places else 0.0,
    }
    for k in ks:
        hits, best = sum(place <= k for place in places), _discount(ideal[:k])
        found[f"success_{k}"] = float(hits > 0)
        found[f"P_{k}"] = hits / k
        found[f"recall_{k}"] = hits / total
        found[f"ndcg_cut_{k}"] = _discount(gains[:k]) / best if best else 0.0
    return found


def _discount(gains: Sequence[int]) -> float:
    return sum(gain / math.log2(1 + place) for place, gain in enumerate(gains, 1))
