"""Prompts of class names, and the classes that a model cannot tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from align.encoders import Precomputed
from align.model import JointModel
from align.model.inside import unwrap
from align.model.naming import naming
from align.preprocess import Preprocess

default_templates = ("{}", "a {}")
most_prompts = 8192  # embeddings that are held at a time: 1,000 classes in 80 templates at D=1,024 would be 328 MB


def class_prompts(
    model: JointModel, classes: Sequence[str], templates: Sequence[str] = default_templates, *, text: str = "text"
) -> Tensor:
    """Return (C, D), each class as the mean of its prompts' embeddings, normalised where the model's embeddings are.

    A template has one ``{}`` for the class name, whose underscores become spaces. The ensemble of Radford et al. 2021
    (arXiv 2103.00020), section 3.1.4. Raises ValueError for a template without ``{}``, for no classes, and for a class
    that comes twice, by its name or by its prompts: equal candidates tie, and ties never help.
    """
    number = equal_prompts(model, classes, templates, text=text)
    for i, first in enumerate(number):
        if first != i:
            one, other = str(classes[first]), str(classes[i])
            alike = f"the classes {one!r} and {other!r} have the same prompts; give one of them"
            raise ValueError(f"the class {one!r} comes twice" if one == other else alike)
    together = max(1, most_prompts // len(templates))
    means = []
    for start in range(0, len(classes), together):
        some = classes[start : start + together]
        asked: dict[str, Any] = {text: [t.replace("{}", prompt_name(c)) for c in some for t in templates]}
        rows = model.embed(**asked)[text].cpu()
        means.append(rows.view(len(some), len(templates), -1).mean(dim=1))
    mean = torch.cat(means)
    return F.normalize(mean, dim=-1) if model.normalize else mean


def equal_prompts(
    model: JointModel, classes: Sequence[str], templates: Sequence[str] = default_templates, *, text: str = "text"
) -> list[int]:
    """Return for each class the number of the first class with the same tokens in all prompts, mostly its own.

    ``big_cone``, ``big cone`` and, for most tokenizers, ``Big cone`` are one class. So are long names that are cut
    alike.
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
    seen: dict[bytes, list[int]] = {}  # by the first template; those that agree there are compared in all
    found = []
    for i, name in enumerate(classes):
        with naming(f"class {name!r}"):
            alike = seen.setdefault(_read(reader, templates[0], name), [])
            same = [
                j for j in alike if all(_read(reader, t, name) == _read(reader, t, classes[j]) for t in templates[1:])
            ]
        found.append(same[0] if same else i)
        if not same:
            alike.append(i)
    return found


def prompt_name(name: str) -> str:
    """Return a class's name as a prompt says it.

    >>> prompt_name("traffic_cone")
    'traffic cone'
    """
    return str(name).replace("_", " ")


def _read(reader: Preprocess, template: str, name: str) -> bytes:
    return reader.row(template.replace("{}", prompt_name(name))).numpy().tobytes()
