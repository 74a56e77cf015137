"""Zero-shot labels of embedded samples, for each attribute that the shards state classes of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor

from align.data.names import TEXT
from align.embedding import first_rows
from align.encoders import Precomputed
from align.evaluation.prompts import class_prompts, default_templates, equal_prompts
from align.model import JointModel
from align.model.inside import unwrap
from align.scoring import choose, score
from align.values import Embeddings


class Answer(NamedTuple):
    """The best class of a sample, and its probability, or None where no trained term gives one."""

    label: str
    confidence: float | None


def can_ask(model: JointModel, text: str = "text") -> bool:
    """Return True for a model with a text tower that reads words, and not cached rows or arrays."""
    if text not in model.modalities or isinstance(unwrap(model.towers[text].encoder), Precomputed):
        return False
    return TEXT in model.preprocess[text].suffixes


@final
class Questions:
    """Attributes with two classes or more, and the prompts of these, which are embedded a single time.

    The prompts and the probabilities are those of ``align.classify``.

    Args:
        model: one that ``can_ask``. For another there are no questions.
        classes: attribute -> class names. Names with equal prompts are one class, by the first of them.
    """

    def __init__(self, model: JointModel, classes: Mapping[str, Sequence[str]], text: str = "text"):
        self.text, self.terms = text, model.terms
        self.classes: dict[str, list[str]] = {}
        self.prompts: dict[str, Tensor] = {}  # (C, D)
        for attribute, names in classes.items() if can_ask(model, text) else ():
            if len(names) < 2:
                continue
            first = equal_prompts(model, [*names], default_templates, text=text)
            kept = [names[i] for i in dict.fromkeys(first)]
            self.classes[attribute] = kept
            self.prompts[attribute] = class_prompts(model, kept, default_templates, text=text)

    def answer(self, embeddings: Embeddings) -> list[dict[tuple[str, str], Answer]]:
        """Return for each of the B samples (attribute, modality) -> its answer, of all modalities but the text's.

        Of several rows of a sample the first counts.
        """
        found: list[dict[tuple[str, str], Answer]] = [{} for _ in range(embeddings.size)]
        for modality in sorted(set(embeddings) - {self.text}):
            query, samples = first_rows(embeddings, [modality])
            if not len(samples):
                continue
            how = choose(self.terms, query, self.text)
            for attribute, prompts in self.prompts.items():
                table = score(query, prompts, how, of=self.text, terms=self.terms)  # (n, C)
                shares = torch.softmax(table, dim=1) if how == "objective" else None
                for i, (sample, best) in enumerate(zip(samples.tolist(), table.argmax(1).tolist(), strict=True)):
                    share = None if shares is None else float(shares[i, best])
                    found[sample][attribute, modality] = Answer(self.classes[attribute][best], share)
        return found
