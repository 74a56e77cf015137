"""Zero-shot classification of files, without shards: ``align.classify`` and ``align zeroshot``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from align.checkpoint import load
from align.evaluation.descriptions import check_descriptions
from align.evaluation.prompts import Word, class_prompts, default_templates, describe, equal_prompts
from align.model import JointModel
from align.scoring import choose, score


class Labelled(NamedTuple):
    """One input's class: the best, the cosine of each, and their probabilities, or None where no term gives them."""

    label: str
    scores: dict[str, float]
    probabilities: dict[str, float] | None


def classify(
    model: JointModel | str | Path,
    classes: Sequence[str] | Mapping[str, Word],
    /,
    *,
    templates: Sequence[str] | None = None,
    descriptions: Mapping[str, Sequence[str]] | None = None,
    **inputs: Sequence[Any],
) -> list[Labelled]:
    """Return the class of each input, by zero-shot classification (Radford et al. 2021, arXiv:2103.00020, section 3.1).

        align.classify("open_clip:ViT-B-32/laion2b_s34b_b79k", ["cat", "dog"], image=["one.jpg", "two.jpg"])

    The trained objective gives the probabilities: a softmax over the classes at its learned scale. Where no term of it
    joins the inputs with text, the classes are ranked by cosine.

    Args:
        model: a model, or a name that ``align.load`` takes.
        classes: names of classes, or label -> its name in prompts, or a list of its names, all of which are asked with.
        templates: prompts, each with one ``{}``. None takes "{}" and "a {}".
        descriptions: label -> texts: whole prompts instead of the templates, in which a ``{}`` is the class name.
        inputs: modality -> n paths, bytes or objects, as ``JointModel.embed`` takes them. Of several modalities, row i
            of each belongs to one thing.

    Raises ValueError for a model without a text tower, for no inputs, for descriptions of an unknown label, and as
    ``align.load`` and ``embed`` do. Warns of classes with the same prompts: they count as one, by the first name.
    """
    if not isinstance(model, JointModel):
        model = load(model)
    if isinstance(classes, str):
        raise TypeError(f"classes is a list of names, not {classes!r}")
    words = dict(classes) if isinstance(classes, Mapping) else {str(name): str(name) for name in classes}
    rows, _, notes = label_inputs(model, words, templates, inputs, descriptions)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return rows


def label_inputs(
    model: JointModel,
    words: Mapping[str, Word],
    templates: Sequence[str] | None,
    inputs: Mapping[str, Sequence[Any]],
    descriptions: Mapping[str, Sequence[str]] | None = None,
) -> tuple[list[Labelled], str, list[str]]:
    """Return the class of each input, the rule that ranked them, and notes on classes with the same prompts.

    words: label -> its name in prompts, or its names. descriptions: label -> texts, see ``classify``.
    """
    check_modalities(model, inputs)
    given: dict[str, Any] = {modality: list(rows) for modality, rows in inputs.items()}
    return label_embedded(model, words, templates, lambda: model.embed(**given), descriptions)


def label_embedded(
    model: JointModel,
    words: Mapping[str, Word],
    templates: Sequence[str] | None,
    embed: Callable[[], Mapping[str, Tensor]],
    descriptions: Mapping[str, Sequence[str]] | None = None,
) -> tuple[list[Labelled], str, list[str]]:
    """Return the same as ``label_inputs`` for inputs whose embeddings ``embed`` gives: modality -> (n, D).

    It is called after the classes and the templates have been checked.
    """
    templates = list(templates or default_templates)
    labels = list(words)
    names = describe(words, check_descriptions(labels, descriptions or {}))
    first = equal_prompts(model, names, templates)
    classes = [labels[i] for i in dict.fromkeys(first)]
    pairs = [(labels[i], label) for i, label in zip(first, labels, strict=True) if labels[i] != label]
    notes = [f"{one!r} and {other!r} have the same prompts, so they are one class, {one!r}" for one, other in pairs]
    embedded = {modality: rows.cpu() for modality, rows in embed().items()}
    prompts = class_prompts(model, [names[i] for i in dict.fromkeys(first)], templates)
    how = choose(model.terms, embedded, "text")
    cosine = ranked = score(embedded, prompts, "cosine", of="text")
    shares = None
    if how == "objective":
        ranked = score(embedded, prompts, how, of="text", terms=model.terms)
        shares = torch.softmax(ranked, dim=1)
    found = []
    for i, best in enumerate(ranked.argmax(1).tolist()):
        probabilities = None if shares is None else dict(zip(classes, shares[i].tolist(), strict=True))
        found.append(Labelled(classes[best], dict(zip(classes, cosine[i].tolist(), strict=True)), probabilities))
    return found, how, notes


def check_modalities(model: JointModel, modalities: Mapping[str, Any]) -> None:
    """Raise ValueError unless the model has a text tower and the modalities are others than text."""
    if "text" not in model.modalities:
        raise ValueError(f"zero-shot needs a text tower; the model has {', '.join(model.modalities)}")
    if not modalities:
        raise ValueError("zero-shot needs inputs of a modality, as in image=[...]")
    if "text" in modalities:
        raise ValueError("zero-shot labels other modalities than text")
