"""Compatibility of a model with an earlier one: each of them asks, and each of them is the gallery."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor

from align.checkpoint.fingerprint import fingerprint
from align.embedding.tables import vectors
from align.evaluation.findings import Findings
from align.evaluation.hits import Captions, Rule, by_label
from align.evaluation.ranking import Asked, HitMetrics, Ranked, rank_queries
from align.evaluation.samples import Intervals
from align.evaluation.space import Space
from align.losses.kernels.pairing import counterparts
from align.model import JointModel
from align.page.section import Measured, Section, Table
from align.values import Embeddings, Scores

ROLES = (("old", "old"), ("new", "old"), ("old", "new"), ("new", "new"))
"""The model that asks, and the model whose rows are the gallery."""


class Gallery(NamedTuple):
    """Rows of one modality that both models have, in one order."""

    new: Tensor  # (n, D)
    cut: Tensor  # (n, dims), the first coordinates, at the length 1
    old: Tensor  # (n, dims)
    sample: Tensor  # (n,) in the new model's table
    content: Tensor  # (n,) equal for rows of equal content, -1 where it is not known

    def read(self, asks: str, answers: str, role: str) -> Tensor:
        """Return the rows of a role, ``asks`` or ``answers``. The new model's are whole where no old row is met."""
        return self.old if role == "old" else self.new if asks == answers else self.cut


@final
@dataclass(frozen=True)
class Compatibility:
    """``compatibility/image_to_text/new_to_old/map``, … of the model, the new one, with an earlier one, the old one.

    Every modality of both asks for every one, itself included, where a row and its copies are no candidates. A hit is a
    shared class, of each attribute, or the hit rule where there are no classes. Scores are cosines. Between the two
    models they are those of the first ``dims`` coordinates.

    ``criterion`` is 1 where new queries find more in the old gallery than old ones do, by mean average precision (Shen
    et al. 2020, arXiv 2003.11942, equation 2). ``gain`` is the share of the update that comes without a new row,
    (M(new, old) - M(old, old)) / (M(new, new) - M(old, old)), its update gain with the model itself for the best one.
    It is not measured where the new model alone is no better.

    old: the earlier model. old_name: its name for people. dims: None takes those that ``model.json`` declares, else as
    many as both have.
    """

    name = "compatibility"

    old: JointModel | None = None
    old_name: str = "old"
    dims: int | None = None

    def run(self, space: Space) -> Findings:
        """Return recall@k, MRR and mean average precision of the four roles, the criterion and the gain.

        Raises ValueError without an old model, for one without a modality of the new one, and for impossible dims.
        """
        old = self._check(space.model)
        dims = self.dims or space.model.compatible_with.get(fingerprint(old)) or min(space.model.dim, old.dim)
        new, theirs = space.table(), space.of_model(old).table()
        galleries = {m: both for m in sorted(new) if m in theirs and (both := match(new, theirs, m, dims))}
        found: dict[tuple[str, str, str], dict[tuple[str, str], Ranked]] = {}
        for (prefix, rule), query, of in product(_list_rules(space), galleries, galleries):
            metrics = HitMetrics(rule, space.ks, 10, True)
            ranked = {roles: _rank(galleries[query], galleries[of], query, of, roles, metrics) for roles in ROLES}
            if all(len(one.row) for one in ranked.values()):
                found[prefix, query, of] = ranked
        scores, samples = _flatten(found, galleries, space.ks)
        notes = self._note(space, galleries, found)
        if not scores:
            return Findings({}, {"notes": notes})
        intervals = space.intervals(samples)
        declared = space.model.compatible_with.get(fingerprint(old))
        facts: dict[str, Any] = {
            "old": {"name": self.old_name, "model": fingerprint(old)},
            "dims": dims,
            "declared": declared,
            "rule": "cosine, of the first dims coordinates between the models",
            "rows": {m: len(one.sample) for m, one in galleries.items()},
        }
        section = _show(found, scores, intervals, self.old_name, dims)
        return Findings(scores, {"compatibility": facts, "notes": notes}, section, samples, {}, intervals)

    def _check(self, model: JointModel) -> JointModel:
        if self.old is None:
            raise ValueError("compatibility compares with an earlier model: Compatibility(old=MODEL), --old MODEL")
        if not set(self.old.modalities) & set(model.modalities):
            raise ValueError(
                f"compatibility: {self.old_name} embeds {', '.join(self.old.modalities)}, and the model "
                f"{', '.join(model.modalities)}: they share no modality to compare"
            )
        if self.old.dim > model.dim or not 0 < (self.dims or 1) <= self.old.dim:
            raise ValueError(
                f"compatibility compares the first coordinates of both models: the old one has {self.old.dim}, the new "
                f"one {model.dim}, dims is {self.dims}"
            )
        return self.old

    def _note(self, space: Space, galleries: Mapping[str, Gallery], found: Mapping[Any, Any]) -> list[str]:
        notes = [
            f"compatibility: {self.old_name} has no tower for {m}: it is not compared"
            for m in space.model.modalities
            if self.old is not None and m not in self.old.modalities
        ]
        if galleries and not found:
            notes.append("compatibility is not measured: no query has a hit among other rows")
        return notes


def match(new: Embeddings, old: Embeddings, modality: str, dims: int) -> Gallery | None:
    """Return the rows of a modality that both tables have, None where there are none. Hard negatives are left out."""
    sample, other = new[modality].sample, old[modality].sample
    at, there = counterparts(_read_positions(new, sample), _read_positions(old, other))
    if not len(at):
        return None
    rows, theirs = vectors(new, modality)[at], vectors(old, modality)[there]
    content = new[modality].content
    known = torch.full((len(at),), -1) if content is None else content[at]
    cut, before = (F.normalize(x[:, :dims].double(), dim=1) for x in (rows, theirs))
    return Gallery(rows, cut, before, sample[at], known)


def _read_positions(table: Embeddings, sample: Tensor) -> Tensor:
    """Return the position in the shards of each row's sample, (n,), -1 for a hard negative."""
    places = torch.cat([table.position, torch.tensor([-1])])
    return places[sample]


def _list_rules(space: Space) -> Iterator[tuple[str, Rule]]:
    """Yield the prefix and the hit rule of each attribute, or the evaluation's where there are no classes."""
    for name, names in space.classes.items():
        yield ("" if len(space.classes) == 1 else f"{name}/"), by_label(space.table(), name, list(names))
    if not space.classes and not isinstance(space.hit.rule, Captions):
        yield "", space.hit.rule


def _rank(query: Gallery, of: Gallery, m: str, other: str, roles: tuple[str, str], metrics: HitMetrics) -> Ranked:
    asks, answers = roles
    candidates = of.read(asks, answers, answers)
    rows = torch.arange(len(query.sample))
    content = of.content if m == other else None
    asked = Asked(
        {m: query.read(asks, answers, asks)}, {m: rows}, query.sample, other, [candidates], of.sample, content
    )
    return rank_queries(asked, metrics, how="cosine")


def _flatten(
    found: Mapping[tuple[str, str, str], Mapping[tuple[str, str], Ranked]],
    galleries: Mapping[str, Gallery],
    ks: tuple[int, ...],
) -> tuple[Scores, dict[str, tuple[Tensor, Tensor]]]:
    """Return the scores, and the values of the queries that have a mean."""
    scores: Scores = {}
    samples: dict[str, tuple[Tensor, Tensor]] = {}
    for (prefix, query, of), ranked in found.items():
        name = f"compatibility/{prefix}{query}_to_{of}"
        for (asks, answers), one in ranked.items():
            for metric in (*(f"recall@{k}" for k in ks), "map", "mrr"):
                key = f"{name}/{asks}_to_{answers}/{metric}"
                scores[key] = one.scores[metric]
                samples[key] = one.values[metric], galleries[query].sample[one.row]
        before, mixed, _, after = (one.scores["map"] for one in ranked.values())
        scores[f"{name}/criterion"] = float(mixed > before)
        if after > before:
            scores[f"{name}/gain"] = (mixed - before) / (after - before)
    return scores, samples


def _show(found: Mapping[Any, Any], scores: Scores, intervals: Intervals, old: str, dims: int) -> Section:
    """Return the section: a table of mean average precision, and one of the first recall."""
    head = ["direction", *(f"{asks} → {answers}" for asks, answers in ROLES)]
    tables = []
    for metric in dict.fromkeys(name.rpartition("/")[2] for name in scores if name.endswith(("/map", "recall@1"))):
        rows = []
        for prefix, query, of in found:
            name = f"compatibility/{prefix}{query}_to_{of}"
            keys = [f"{name}/{asks}_to_{answers}/{metric}" for asks, answers in ROLES]
            cells: list[Any] = [Measured(scores[key], intervals.get(key)) for key in keys]
            if metric == "map":
                gain = scores.get(f"{name}/gain")
                cells += ["" if gain is None else f"{gain:.2f}", "yes" if scores[f"{name}/criterion"] else "no"]
            rows.append([f"{prefix}{query} → {of}", *cells])
        tables.append(Table([*head, "gain", "compatible"] if metric == "map" else head, rows, title=metric))
    return Section("Compatibility", f"Queries → gallery, old: {old}, by its {dims} coordinates.", tables[::-1])
