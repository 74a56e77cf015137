"""Any-to-any retrieval: the rank of the right rows of one modality for each row of another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor

from align.evaluation.directions import Metrics, directions
from align.evaluation.findings import Findings
from align.evaluation.hits import Captions, Rule, by_caption, by_label, by_sample
from align.evaluation.notes import retrieval_facts
from align.evaluation.overlap import refuse_overlap
from align.evaluation.ranking import Asked, GradedMetrics, HitMetrics, Ranked, rank_queries
from align.evaluation.retrieval_section import retrieval_section
from align.evaluation.space import Space
from align.evaluation.spread import spread
from align.metrics import weighted_median
from align.scoring import How
from align.values import Embeddings, Scores, TermInfo


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
    ndcg: int = 10,
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
        precision: measures the mean average precision too, which costs a sort of each row of many hits.
        ndcg: k of nDCG@k.

    Returns recall@k, median_rank, map, mrr, ndcg@k and chance (the expected recall@1 of a blind order), or {} where no
    query has a hit. Scores are computed in float64 and compared in float32, so that equal rows tie, and a tie never
    helps.
    """
    rows = dict.fromkeys(query, torch.arange(len(query_sample)))
    content = torch.full_like(candidate_sample, -1) if list(query) == [of] else None
    asked = Asked(query, rows, query_sample, of, [candidates], candidate_sample, content)
    return rank_queries(asked, HitMetrics(hits, ks, ndcg, precision), how=how, terms=terms).scores


def retrieval_shards(
    embeddings: Embeddings,
    hits: Rule | Captions,
    *,
    terms: Sequence[TermInfo] = (),
    ks: Sequence[int] = (1, 5, 10),
    prefix: str = "",
    precision: bool = True,
    ndcg: int = 10,
) -> Scores:
    """Return ``PREFIX/image_to_text/recall@10``, … for all ordered pairs of modalities. See ``directions``."""
    found = directions(embeddings, hits, lambda rule, _: HitMetrics(rule, ks, ndcg, precision), terms=terms)
    return _flat(found, prefix)


@final
@dataclass(frozen=True)
class Retrieval:
    """``image_to_text/recall@10``, … by the hit rule, and under ``class/`` by the classes of each attribute.

    intra: each modality asks for itself too (``image_to_image/…``), where a row of equal content is no candidate. ndcg:
    k of nDCG@k. Where labels have several attributes, ``class/image_to_text/ndcg@10`` has graded gains: the share of
    the attributes in which two samples have a class in common. Raises ValueError for a k below 1.
    """

    name = "retrieval"

    intra: bool = False
    ndcg: int = 10
    text: str = "text"

    def __post_init__(self) -> None:
        if self.ndcg < 1:
            raise ValueError(f"nDCG@k needs k >= 1, got {self.ndcg}")

    def run(self, space: Space) -> Findings:
        """Return recall@k, median rank, MRR, mean average precision, nDCG and chance of every ordered pair."""
        table = space.table()
        distractors = None
        if space.distractors is not None:
            refuse_overlap(space, "distractors", "distractors would equal the answers", "of other samples")
            distractors = space.table(split="distractors")
        ask = partial(directions, table, terms=space.model.terms, distractors=distractors, intra=self.intra)
        rules: dict[str, Rule | Captions] = {"": _with_distractors(space.hit.rule, table, distractors)}
        by_class = {name: by_label(table, name, list(names)) for name, names in space.classes.items()}
        rules |= {"class/" if len(by_class) == 1 else f"class/{name}/": rule for name, rule in by_class.items()}
        found = {prefix: ask(rule, self._metrics(space.ks, not prefix)) for prefix, rule in rules.items()}
        if len(by_class) > 1:
            graded = GradedMetrics(list(by_class.values()), self.ndcg)
            found["class/"] = ask(by_sample(), lambda *_: graded)
        scores = {key: value for prefix, some in found.items() for key, value in _flat(some, prefix).items()}
        samples = {key: value for prefix, some in found.items() for key, value in _samples(some, prefix)}
        statistics = {key: weighted_median for key in samples if key.endswith("/median_rank")}
        around = space.intervals(samples, statistics)
        facts = retrieval_facts(space, scores, self.text)
        more, notes = self._facts(table, distractors)
        section = None
        if any(found.values()):
            shown = spread(table, space.hit.rule, seed=space.seed, intra=self.intra)
            section = retrieval_section(found, space.hit.text, space.ks, around, shown)
        facts |= {"retrieval": more, "notes": [*facts["notes"], *notes]}
        return Findings(scores, facts, section, samples, statistics, around)

    def _metrics(self, ks: Sequence[int], precision: bool) -> Metrics:
        return lambda rule, itself: HitMetrics(rule, ks, self.ndcg, precision or itself)

    def _facts(self, table: Embeddings, distractors: Embeddings | None) -> tuple[dict[str, Any], list[str]]:
        """Return the protocol's entries, and lines about the candidates that ask nothing."""
        more: dict[str, Any] = {"ndcg": f"@{self.ndcg}, gain 1 of a hit, 1 / log2(1 + place)", "intra": self.intra}
        notes = []
        if distractors is not None:
            counts = {m: distractors[m].n for m in table if m in distractors and distractors[m].n}
            more["distractors"] = counts
            says = ", ".join(f"{n:,} of {m}" for m, n in counts.items()) or "none of the modalities here"
            notes.append(f"retrieval has distractors, which are candidates and ask nothing: {says}")
            notes += [
                f"{n:,} distractors of {m} equal an answer: they tie with it, and a tie never helps"
                + ("; --hit caption takes equal texts as one answer" if m == self.text else "")
                for m, n in _equal_distractors(table, distractors).items()
            ]
        if self.intra:
            notes.append(
                "a modality that asks for itself is measured by cosines that a loss between modalities did not train "
                "(Mistretta et al. 2025, arXiv 2502.04263)"
            )
        return more, notes


def _equal_distractors(table: Embeddings, distractors: Embeddings) -> dict[str, int]:
    """Return modality -> number of distractors whose content is that of a row of the table."""
    found = {}
    for m, rows in table.items():
        more = distractors.get(m)
        if more is not None and more.content is not None and rows.content is not None:
            found[m] = int(torch.isin(more.content, rows.content).sum())
    return {m: n for m, n in found.items() if n}


def _with_distractors(rule: Rule | Captions, table: Embeddings, distractors: Embeddings | None) -> Rule | Captions:
    if isinstance(rule, Captions) and distractors is not None:
        return by_caption(table, rule.text, distractors)
    return rule


def _flat(found: Mapping[tuple[str, str], Ranked], prefix: str) -> Scores:
    return {
        f"{prefix}{query}_to_{of}/{key}": value
        for (query, of), one in found.items()
        for key, value in one.scores.items()
    }


def _samples(found: Mapping[tuple[str, str], Ranked], prefix: str) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    for (query, of), one in found.items():
        for metric, value in one.values.items():
            yield f"{prefix}{query}_to_{of}/{metric}", (value, one.row)
