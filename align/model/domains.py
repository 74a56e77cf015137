"""Domains of a model whose heads choose an expert by a row's label, and the model as it embeds rows of one domain."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from align.model.inside import unwrap
from align.model.joint import JointModel
from align.model.naming import naming


def list_domains(model: JointModel) -> dict[str, list[str]]:
    """Return modality -> names of the classes of its head, of the towers whose head reads labels."""
    return {m: [*(head.classes or ())] for m, head in _find_heads(model).items()}


def name_domains(model: JointModel, classes: Mapping[str, Sequence[str]]) -> None:
    """Give heads that read labels the classes of the training set, or check them. classes: attribute -> its names.

    Raises ValueError, with the tower's name, for an attribute that the training set does not have, for more classes
    than experts, and for a class of the training set that a head does not name.
    """
    for m, head in _find_heads(model).items():
        named = classes.get(head.attribute) or []
        with naming(f"tower {m!r}"):
            if not named and not (head.classes and head.unlabelled == "gate"):
                near = f"there are {', '.join(classes)}" if classes else "the labels of the training set have none"
                raise ValueError(f"its head chooses an expert by the attribute {head.attribute!r}; {near}")
            if not head.classes:
                head.name_classes(named)
            if other := [name for name in named if name not in head.classes]:
                raise ValueError(
                    f"its head has no expert for {head.attribute!r} {', '.join(map(repr, other))} of the training set; "
                    f"its classes are {', '.join(head.classes)}"
                )


def in_domain(model: JointModel, name: str) -> JointModel:
    """Return the model that sends every row to the expert of one class, whatever its label. It shares all weights.

    A tower whose head reads no labels, or does not name this class, is as before.

    Raises ValueError for a model without such a head, and for a name that none of them has.
    """
    heads = _find_heads(model)
    places = {m: head.classes.index(name) for m, head in heads.items() if name in (head.classes or ())}
    if not places:
        known = sorted({one for names in list_domains(model).values() for one in names})
        has = f"there are {', '.join(known)}" if known else "no head of the model chooses an expert by the label"
        raise ValueError(f"no domain {name!r}; {has}")
    view = _copy(model)
    view.towers = towers = nn.ModuleDict()
    for m, tower in model.towers.items():
        towers[m] = tower
        if m in places:
            towers[m] = _copy(tower)
            towers[m].head = head = _copy(tower.head)
            head.only = places[m]
    return view


def _find_heads(model: JointModel) -> dict[str, Any]:
    heads = {m: unwrap(tower.head) for m, tower in model.towers.items()}
    return {m: head for m, head in heads.items() if getattr(head, "needs_labels", False)}


def _copy(module: Any) -> Any:
    """Return a module of the same parameters, buffers and parts, whose attributes may be others."""
    made = copy.copy(unwrap(module))
    made._modules = dict(made._modules)
    return made
