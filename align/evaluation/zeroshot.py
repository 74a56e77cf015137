"""Zero-shot classification: a row is given the class whose prompts it is nearest to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor

from align.embedding.tables import first_rows, vectors
from align.evaluation.composed import composed_queries
from align.evaluation.findings import Findings
from align.evaluation.labels import memberships
from align.evaluation.notes import zeroshot_facts
from align.evaluation.prompts import class_prompts, equal_prompts
from align.evaluation.samples import Intervals, proportion
from align.evaluation.space import Space
from align.metrics import ranks, recall_at
from align.page.section import Bar, Bars, Section, Tile
from align.scoring import choose, score
from align.values import Scores, TermInfo

chunk = 4096  # queries scored at a time


class Classified(NamedTuple):
    """Zero-shot of one attribute from one modality. rank, sample: (q,) of the rows that have a class."""

    scores: Scores
    rank: Tensor
    sample: Tensor


def zeroshot(
    query: Mapping[str, Tensor],
    prompts: Tensor,
    members: Tensor,
    *,
    terms: Sequence[TermInfo] = (),
    text: str = "text",
    ks: Sequence[int] = (1, 5),
) -> Scores:
    """Return the accuracy of n rows against class prompts.

    Args:
        query: {modality: (n, D)}. Of several modalities, row i of each belongs together.
        prompts: (C, D), from ``class_prompts``.
        members: (n, C) bool, the classes of each row. Rows of no class are left out.
        terms: the model's trained terms. See ``align.scoring.choose``.
        text: the modality of the prompts.
        ks: ``accuracy@k`` is given for each k > 1 below C.

    Returns accuracy, accuracy@k and chance (the expected accuracy of a blind guess), or {} where no row has a class.
    """
    return _classify(query, prompts, members, torch.arange(len(members)), terms=terms, text=text, ks=ks).scores


def _classify(
    query: Mapping[str, Tensor],
    prompts: Tensor,
    members: Tensor,
    sample: Tensor,
    *,
    terms: Sequence[TermInfo],
    text: str,
    ks: Sequence[int] = (1, 5),
) -> Classified:
    known = members.any(dim=1)
    n = int(known.sum())
    if n == 0:
        return Classified({}, sample[:0], sample[:0])
    how = choose(terms, query, text)
    members = members[known]
    found = []
    for start in range(0, n, chunk):
        part = {m: x[known][start : start + chunk] for m, x in query.items()}
        scores = score(part, prompts, how, of=text, terms=terms)  # (q, C)
        found.append(ranks(scores, members[start : start + chunk]))  # with several classes a row, any of them is right
    place = torch.cat(found)
    wanted = [k for k in ks if k == 1 or k < len(prompts)]
    out = {"accuracy" if k == 1 else f"accuracy@{k}": recall_at(place, k) for k in wanted}
    return Classified(out | {"chance": float(members.double().mean())}, place, sample[known])


@final
class ZeroShot:
    """``zeroshot/ATTRIBUTE/MODALITY/accuracy`` for every attribute × every modality with labelled rows but the text's.

    Labels whose prompts are equal are one class. A Symile term that joins the text with several modalities is read with
    all of them at once: ``zeroshot/sum/audio+image/accuracy``, over the samples that have them all (their first rows).
    """

    name = "zeroshot"
    text = "text"

    def run(self, space: Space) -> Findings:
        """Return accuracy, accuracy@5 and chance for each attribute and modality."""
        found: dict[tuple[str, str], Classified] = {}
        for attribute in space.classes if self.text in space.model.modalities else ():
            found |= {(attribute, m): one for m, one in self._attribute(space, attribute).items()}
        prefixed = {f"zeroshot/{attribute}/{m}/": one for (attribute, m), one in found.items()}
        scores = {prefix + key: value for prefix, one in prefixed.items() for key, value in one.scores.items()}
        samples = {
            f"{prefix}accuracy{'' if k == 1 else f'@{k}'}": (((one.rank > 0) & (one.rank <= k)).float(), one.sample)
            for prefix, one in prefixed.items()
            for k in (1, 5)
            if k == 1 or f"accuracy@{k}" in one.scores
        }
        facts = zeroshot_facts(space, scores, self.text)
        statistics = dict.fromkeys(samples, proportion)
        around = space.intervals(samples, statistics)
        section = _section(space, found, around) if found else None
        return Findings(scores, facts, section, samples, statistics, around)

    def _attribute(self, space: Space, attribute: str) -> dict[str, Classified]:
        """Return modality, or several with + between them, -> accuracy. A modality without a class is left out."""
        embeddings, terms, names = space.table(), space.model.terms, space.classes[attribute]
        table = memberships(embeddings.labels, attribute, list(names))  # (B, labels)
        if not table.any():
            return {}
        words, templates = list(names.values()), space.templates[attribute]
        number = torch.tensor(equal_prompts(space.model, words, templates, text=self.text))
        kept = number.unique()
        table = torch.stack([table[:, number == i].any(dim=1) for i in kept], dim=1)  # (B, C)
        prompts = class_prompts(space.model, [words[i] for i in kept], templates, text=self.text)
        found = {}
        for m in embeddings:
            rows = embeddings[m]
            if m == self.text or not rows.n:
                continue
            members = table[rows.sample] & (rows.sample >= 0)[:, None]
            query = {m: vectors(embeddings, m)}
            found[m] = _classify(query, prompts, members, rows.sample, terms=terms, text=self.text)
        for together in composed_queries(terms, self.text):
            query, samples = first_rows(embeddings, together)
            found["+".join(together)] = _classify(query, prompts, table[samples], samples, terms=terms, text=self.text)
        return {m: one for m, one in found.items() if one.scores}


def _section(space: Space, found: Mapping[tuple[str, str], Classified], around: Intervals) -> Section:
    bars = []
    for (a, m), one in found.items():
        more = {k: v for k, v in one.scores.items() if "@" in k}
        interval = around.get(f"zeroshot/{a}/{m}/accuracy")
        bars.append(Bar(a, m, one.scores["accuracy"], one.scores["chance"], more, interval))
    tiles = []
    for attribute in dict.fromkeys(bar.row for bar in bars):
        best = max((bar for bar in bars if bar.row == attribute), key=lambda bar: (bar.value, bar.column))
        name = f"{attribute} from {best.column.replace('+', ' + ')}"
        tiles.append(Tile(name, best.value, "zero-shot accuracy", f"chance {best.chance:.3f}", best.interval))
    notes = {a: f"{len(names)} classes" for a, names in space.classes.items()}
    return Section(
        "Zero-shot",
        "Classes told by their names alone. The mark on a bar is chance.",
        [Bars("Attribute", "accuracy", bars, notes, more=["accuracy@5"])],
        tiles[:4],
    )
