"""Prompts of class names, and the classes that a model cannot tell apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from align.encoders import Precomputed
from align.model import JointModel
from align.model.inside import unwrap
from align.model.naming import naming
from align.preprocess import Preprocess

default_templates = ("{}", "a {}")

BLOCK = 4096  # prompts embedded at a time

Word = str | Sequence[str]
"""The name of a class in prompts, or several: synonyms, all of which are asked with."""


@final
@dataclass(frozen=True)
class Texts:
    """Whole prompts of a class, which stand in the place of its name in templates. name: for messages."""

    name: str
    prompts: tuple[str, ...]


Name = Word | Texts


def class_prompts(
    model: JointModel, classes: Sequence[Name], templates: Sequence[str] = default_templates, *, text: str = "text"
) -> Tensor:
    """Return (C, D), each class as the mean of its prompts' embeddings, normalised where the model's embeddings are.

    A template has one ``{}`` for the class name, whose underscores become spaces. The ensemble of Radford et al. 2021
    (arXiv 2103.00020), section 3.1.4. Of several names of a class, each is asked in each template. ``Texts`` are asked
    as they are. Raises ValueError for a template without ``{}``, for no classes, and for a class that comes twice, by
    its name or by its prompts: equal candidates tie, and ties never help.
    """
    number = equal_prompts(model, classes, templates, text=text)
    for i, first in enumerate(number):
        if first != i:
            one, other = title(classes[first]), title(classes[i])
            alike = f"the classes {one!r} and {other!r} have the same prompts; give one of them"
            raise ValueError(f"the class {one!r} comes twice" if one == other else alike)
    means = [mean for some in _blocks(classes, templates) for mean in _embed(model, some, text)]
    mean = torch.stack(means)
    return F.normalize(mean, dim=-1) if model.normalize else mean


def equal_prompts(
    model: JointModel, classes: Sequence[Name], templates: Sequence[str] = default_templates, *, text: str = "text"
) -> list[int]:
    """Return for each class the number of the first class with the same tokens in all prompts, mostly its own.

    ``big_cone``, ``big cone`` and, for most tokenizers, ``Big cone`` are one class. So are long names that are cut
    alike, and the same synonyms in another order.
    Raises ValueError as ``class_prompts`` does.
    """
    if isinstance(unwrap(model.towers[text].encoder), Precomputed):
        raise ValueError(
            f"the tower {text!r} reads cached rows, so it cannot embed names of classes: leave zero-shot out (with: "
            "[retrieval]), or complete the tower with `align assemble`"
        )
    if not classes:
        raise ValueError("zero-shot needs at least one class name")
    if not templates:
        raise ValueError('zero-shot needs at least one template, such as "a photo of a {}"')
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(f"a template has one {{}} for the class name, as in 'a photo of a {{}}'; got {template!r}")
    reader: Preprocess = model.preprocess[text]
    prompts = [list_prompts(_sort(name), templates) for name in classes]
    seen: dict[tuple[int, bytes], list[int]] = {}  # by the first prompt; those that agree there are compared in all
    found = []
    for i, name in enumerate(classes):
        with naming(f"class {title(name)!r}"):
            alike = seen.setdefault((len(prompts[i]), _read(reader, prompts[i][0])), [])
            same = [
                j
                for j in alike
                if all(
                    _read(reader, a) == _read(reader, b) for a, b in zip(prompts[i][1:], prompts[j][1:], strict=True)
                )
            ]
        found.append(same[0] if same else i)
        if not same:
            alike.append(i)
    return found


def describe(words: Mapping[str, Word], descriptions: Mapping[str, Sequence[str]]) -> list[Name]:
    """Return the name of each label in prompts, or its descriptions: whole texts, in which ``{}`` is the name.

    words: label -> its name, or its names. descriptions: label -> texts, of some of the labels. A text with ``{}`` is
    asked with each name of its class. Descriptions by a language model: CuPL (Pratt et al. 2023, arXiv 2209.03320) and
    Menon and Vondrick 2023 (arXiv 2210.07183).
    """
    found: list[Name] = []
    for label, word in words.items():
        names = [prompt_name(name) for name in names_of(word)]
        filled = [
            text.replace("{}", name)
            for text in descriptions.get(label, ())
            for name in (names if "{}" in text else [""])
        ]
        found.append(Texts(label, tuple(filled)) if filled else word)
    return found


def names_of(word: Word) -> list[str]:
    """Return the names of a class: one, or its synonyms."""
    return [word] if isinstance(word, str) else list(map(str, word))


def list_prompts(name: Name, templates: Sequence[str]) -> list[str]:
    """Return the prompts of a class.

    >>> list_prompts(["sofa", "big_couch"], ["a {}"]), list_prompts(Texts("sofa", ("it is soft",)), ["a {}"])
    (['a sofa', 'a big couch'], ['it is soft'])
    """
    if isinstance(name, Texts):
        return list(name.prompts)
    return [template.replace("{}", prompt_name(one)) for one in names_of(name) for template in templates]


def prompt_name(name: str) -> str:
    """Return a class's name as a prompt says it.

    >>> prompt_name("traffic_cone")
    'traffic cone'
    """
    return str(name).replace("_", " ")


def title(name: Name) -> str:
    """Return a class's name for a message: the first of several."""
    return name.name if isinstance(name, Texts) else names_of(name)[0]


def _sort(name: Name) -> Name:
    """Return the name with its synonyms, or its texts, in an order that does not depend on the one given."""
    if isinstance(name, Texts):
        return Texts(name.name, tuple(sorted(name.prompts, key=str.casefold)))
    return name if isinstance(name, str) else sorted(names_of(name), key=lambda one: prompt_name(one).casefold())


def _blocks(classes: Sequence[Name], templates: Sequence[str]) -> Iterator[list[list[str]]]:
    """Yield the prompts of some classes at a time, about ``BLOCK`` of them."""
    block: list[list[str]] = []
    for name in classes:
        block.append(list_prompts(name, templates))
        if sum(map(len, block)) >= BLOCK:
            yield block
            block = []
    if block:
        yield block


def _embed(model: JointModel, prompts: Sequence[Sequence[str]], text: str) -> list[Tensor]:
    """Return the mean embedding (D,) of each class's prompts."""
    asked: dict[str, Any] = {text: [prompt for some in prompts for prompt in some]}
    rows = model.embed(**asked)[text].cpu()
    return [part.mean(dim=0) for part in rows.split([len(some) for some in prompts])]


def _read(reader: Preprocess, prompt: str) -> bytes:
    return reader.row(prompt).numpy().tobytes()
