"""Zero-shot classification: a row is given the class whose prompts it is nearest to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from align.embedding.tables import first_rows, vectors
from align.evaluation.answers import accuracies, answer
from align.evaluation.classified import Classified, classify_rows
from align.evaluation.composed import composed_queries
from align.evaluation.findings import Findings
from align.evaluation.labels import memberships
from align.evaluation.prompts import class_prompts, equal_prompts
from align.evaluation.space import Space
from align.evaluation.zeroshot_facts import state_zeroshot
from align.evaluation.zeroshot_section import zeroshot_section
from align.metrics.binary import check_specificity
from align.values import Scores, TermInfo


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
    rows = members.any(dim=1).nonzero()[:, 0]
    if not len(rows):
        return {}
    found = answer(query, rows, prompts, members, rows, terms=terms, text=text)
    return accuracies(found, len(prompts), ks) | {"chance": found.chance}


@final
@dataclass(frozen=True)
class ZeroShot:
    """``zeroshot/ATTRIBUTE/MODALITY/accuracy`` for every attribute × every modality with labelled rows but the text's.

    Labels whose prompts are equal are one class. A Symile term that joins the text with several modalities is read with
    all of them at once: ``zeroshot/sum/audio+image/accuracy``, over the samples that have them all (their first rows).

    Beside accuracy, accuracy@5 and chance there are, where each row has one class, ``mean_per_class`` (balanced
    accuracy) and ``ece`` (where a trained term gives the scale); where rows have several classes, or an attribute has
    two, ``map`` and ``auroc``, means over classes of each one against the rest.

    specificity: measures ``sensitivity@specificityX`` as well. Raises ValueError for one outside (0, 1).
    """

    specificity: float | None = None
    name = "zeroshot"
    text = "text"

    def __post_init__(self):
        if self.specificity is not None:
            check_specificity(self.specificity)

    def run(self, space: Space) -> Findings:
        """Return the scores of each attribute and modality."""
        found: dict[tuple[str, str], Classified] = {}
        for attribute in space.classes if self.text in space.model.modalities else ():
            found |= {(attribute, m): one for m, one in self._attribute(space, attribute).items()}
        prefixed = {f"zeroshot/{attribute}/{m}/": one for (attribute, m), one in found.items()}
        scores = {prefix + key: value for prefix, one in prefixed.items() for key, value in one.scores.items()}
        samples = {prefix + key: values for prefix, one in prefixed.items() for key, values in one.samples.items()}
        statistics = {prefix + key: how for prefix, one in prefixed.items() for key, how in one.statistics.items()}
        around = space.intervals(samples, statistics)
        facts = state_zeroshot(space, found, scores, self.text)
        section = zeroshot_section(space, found, around) if found else None
        return Findings(scores, facts, section, samples, statistics, around)

    def _attribute(self, space: Space, attribute: str) -> dict[str, Classified]:
        """Return modality, or several with + between them, -> its numbers. One without a labelled row is left out."""
        embeddings, terms, labels = space.table(), space.model.terms, list(space.classes[attribute])
        table = memberships(embeddings.labels, attribute, labels)  # (B, labels)
        if not table.any():
            return {}
        names, templates = space.names(attribute), space.templates[attribute]
        number = torch.tensor(equal_prompts(space.model, names, templates, text=self.text))
        kept = number.unique()
        if len(kept) < len(labels):
            table = torch.stack([table[:, number == i].any(dim=1) for i in kept], dim=1)  # (B, C)
        prompts = class_prompts(space.model, [names[i] for i in kept], templates, text=self.text)
        labels = [labels[i] for i in kept]
        queries = {m: ({m: vectors(embeddings, m)}, embeddings[m].sample) for m in embeddings if m != self.text}
        for together in composed_queries(terms, self.text):
            queries["+".join(together)] = first_rows(embeddings, together)
        known = torch.cat([table.any(dim=1), torch.zeros(1, dtype=torch.bool)])  # the last is where sample -1 looks
        found = {}
        for m, (query, sample) in queries.items():
            rows = known[sample].nonzero()[:, 0]
            if len(rows):
                found[m] = classify_rows(
                    query,
                    rows,
                    prompts,
                    table,
                    sample[rows],
                    labels,
                    terms=terms,
                    text=self.text,
                    specificity=self.specificity,
                    intervals=space.draws > 0,
                )
        return found
