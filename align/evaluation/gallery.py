"""Galleries cut down to hard negatives, and how far their numbers agree with those of the full gallery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite, nan
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from align.checkpoint.fingerprint import fingerprint
from align.evaluation.directions import Direction, list_directions
from align.evaluation.findings import Findings
from align.evaluation.hard_negatives import find_hardest, rank_both
from align.evaluation.probe.statistics import spearman
from align.evaluation.ranking import HitMetrics, Ranked, score_queries
from align.evaluation.samples import Intervals, Statistics
from align.evaluation.space import Space
from align.metrics.agreement import kendall
from align.model import JointModel
from align.page.section import Measured, Section, Table
from align.values import Embeddings, Scores

ITSELF = "the model"


class Both(NamedTuple):
    """Values of one direction by one model, in the full and in the cut gallery."""

    full: Ranked
    cut: Ranked


@final
@dataclass(frozen=True)
class Gallery:
    """``gallery/image_to_text/cut/recall@1``, ``…/full/recall@1`` and ``gallery/image_to_text/spearman``, ….

    Each query's gallery is cut down to its hits and the ``negatives`` wrong candidates that score highest by the
    reference model. Every direction of ``retrieval`` is measured by the hit rule, without distractors.

    ``spearman`` is the rank correlation of the queries' reciprocal ranks in the two galleries. ``kendall`` is that of
    the models by their MRR (tau-b), for the model and the others: 1 where the cut gallery orders them as the full one
    does. It needs two models. A model is best cut by another: by itself, the cut gallery keeps every rank up to
    ``negatives``, so that its recall@k is that of the full one.

    reference: the model that picks the negatives, None for the model itself. reference_name: its name for people.
    others: name -> further models, for kendall. negatives: n. Raises ValueError for n below 1.
    """

    name = "gallery"

    reference: JointModel | None = None
    reference_name: str = "reference"
    others: Mapping[str, JointModel] = field(default_factory=dict)
    negatives: int = 50

    def __post_init__(self) -> None:
        if self.negatives < 1:
            raise ValueError(f"a gallery keeps 1 negative of a query at least, got {self.negatives}")

    def run(self, space: Space) -> Findings:
        """Return recall@k, MRR and mean average precision in both galleries, and their agreement.

        Raises ValueError where a model reads other rows of the shards than this one.
        """
        models = {ITSELF: space.model, **self.others}
        hardest = self._pick(space)
        found: dict[str, dict[str, Both]] = {}
        for name, model in models.items():
            for key, one in _list(space, model, name).items():
                if key in hardest:
                    metrics = HitMetrics(one.rule, space.ks, 10, True)
                    ranked = Both(*rank_both(one.asked, metrics, hardest[key], terms=model.terms))
                    if len(ranked.full.row):
                        sample = one.sample[ranked.full.row]
                        found.setdefault(key, {})[name] = Both(*(part._replace(row=sample) for part in ranked))
        found = {key: some for key, some in found.items() if ITSELF in some}
        if not found:
            return Findings({}, {"notes": ["gallery is not measured: no direction has a query with a hit"]})
        scores, samples, statistics = _flatten(found, space.ks)
        intervals = space.intervals(samples, statistics)
        facts = {
            "negatives": self.negatives,
            "rule": "hits and the negatives that score highest by the reference",
            "reference": {"name": self.reference_name, "model": fingerprint(self.reference)}
            if self.reference is not None
            else ITSELF,
            "models": {name: fingerprint(model) for name, model in self.others.items()},
        }
        notes = [
            f"gallery: {left} is not measured, as {self.reference_name} does not embed it"
            for left in _list(space, space.model, ITSELF)
            if left not in hardest
        ]
        if self.reference is None:
            notes.append(
                f"gallery: the model picked its negatives itself, so recall@k up to k = {self.negatives} is that of "
                "the full gallery; give a reference: --reference MODEL"
            )
        section = _show(found, scores, intervals, self.negatives, self._say())
        return Findings(scores, {"gallery": facts, "notes": notes}, section, samples, statistics, intervals)

    def _pick(self, space: Space) -> dict[str, Tensor]:
        """Return direction -> (q, n), the negatives of each query by the reference."""
        model = self.reference or space.model
        found = {}
        for key, one in _list(space, model, self.reference_name).items():
            blocks = score_queries(one.asked, one.rule, terms=model.terms)
            found[key] = find_hardest(blocks, len(one.sample), self.negatives)
        return found

    def _say(self) -> str:
        return ITSELF if self.reference is None else self.reference_name


def _list(space: Space, model: JointModel, name: str) -> dict[str, Direction]:
    """Return the directions by a model, whose rows must be those of the space. The space's terms state composed ones.

    Raises ValueError where the model reads other rows.
    """
    table, other = space.table(), space if model is space.model else space.of_model(model)
    theirs = other.table()
    for m in table:
        if m in theirs and theirs[m].n and not _are_same(table, theirs, m):
            raise ValueError(
                f"gallery: {name} reads {theirs[m].n:,} rows of {m}, and the model {table[m].n:,}, or those of other "
                "samples; a gallery is cut alike for models that read the same rows"
            )
    listed = list_directions(theirs, other.hit.rule, terms=space.model.terms)
    return {f"{'+'.join(one.names)}_to_{one.asked.of}": one for one in listed}


def _are_same(table: Embeddings, theirs: Embeddings, m: str) -> bool:
    places = [torch.cat([one.position, torch.tensor([-1])])[one[m].sample] for one in (table, theirs)]
    return torch.equal(*places)


def _flatten(
    found: Mapping[str, Mapping[str, Both]], ks: tuple[int, ...]
) -> tuple[Scores, dict[str, tuple[Tensor, Tensor]], Statistics]:
    """Return the scores, the values of the queries, and the statistics of those that are no mean."""
    scores: Scores = {}
    samples: dict[str, tuple[Tensor, Tensor]] = {}
    statistics: dict[str, Any] = {}
    for key, models in found.items():
        both = models[ITSELF]
        for gallery, one in zip(both._fields, both, strict=True):
            for metric in (*(f"recall@{k}" for k in ks), "map", "mrr"):
                name = f"gallery/{key}/{gallery}/{metric}"
                scores[name] = float(one.values[metric].double().mean())
                samples[name] = one.values[metric], one.row
        name = f"gallery/{key}/spearman"
        samples[name] = torch.stack([one.values["mrr"].double() for one in both], dim=1), both.full.row
        scores[name] = float(spearman(samples[name][0], torch.ones(1, len(both.full.row), dtype=torch.float64)))
        statistics[name] = spearman
        if len(models) > 1:
            means = [[float(ranked.values["mrr"].double().mean()) for ranked in one] for one in models.values()]
            scores[f"gallery/{key}/kendall"] = kendall(*torch.tensor(means, dtype=torch.float64).T)
    return scores, samples, statistics


def _show(found: Mapping[str, Any], scores: Scores, intervals: Intervals, n: int, reference: str) -> Section:
    """Return the section: a row for each direction."""
    metrics = ("full/recall@1", "cut/recall@1", "full/map", "cut/map", "spearman", "kendall")
    columns = [metric for metric in metrics if any(f"gallery/{key}/{metric}" in scores for key in found)]

    def cell(key: str, metric: str) -> Measured | str:
        name = f"gallery/{key}/{metric}"
        return Measured(scores[name], intervals.get(name)) if isfinite(scores.get(name, nan)) else ""

    rows = [[key.replace("_to_", " → "), *(cell(key, metric) for metric in columns)] for key in found]
    note = f"Full galleries, and those of the hits and the {n} hardest negatives of each query by {reference}."
    return Section("Cut galleries", note, [Table(["direction", *columns], rows)])
