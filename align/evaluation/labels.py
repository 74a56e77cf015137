"""Labels of samples, read as members of classes.

A label is an int, a str, a list of these, or a dict of attribute -> one of these. A plain one is the attribute "label".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def values_of(label: Any, name: str) -> list[Any]:
    """Return the values of an attribute in one sample's label. There are none where the label does not have it."""
    if isinstance(label, dict):
        label = label.get(name)
    elif name != "label":
        return []
    if label is None:
        return []
    return list(label) if isinstance(label, (list, tuple)) else [label]


def memberships(labels: Sequence[Any], name: str, classes: Sequence[str]) -> Tensor:
    """Return (B, C) bool, true where sample b is of class c. A row of False is a sample without a known label.

    The labels are read as ``class_places`` reads them.
    """
    places = class_places(labels, name, classes)
    row, column = (places >= 0).nonzero(as_tuple=True)
    table = torch.zeros(len(labels), len(classes), dtype=torch.bool)
    table[row, places[row, column]] = True
    return table


def class_places(labels: Sequence[Any], name: str, classes: Sequence[str]) -> Tensor:
    """Return (B, m) int64, the places in `classes` of each sample's known labels, then -1: m is the most of a sample.

    A str is a class name. An int is a name too where the classes are numerals ("7"), or where any int of the labels is
    a class name. Otherwise it is a position in `classes`. All labels are read in one of the two ways.
    """
    place = {str(c): i for i, c in enumerate(classes)}
    values = [values_of(label, name) for label in labels]
    numbers = {value for some in values for value in some if isinstance(value, int)}
    positions = not numerals(classes) and not any(str(value) in place for value in numbers)
    rows: list[list[int]] = []
    for some in values:
        found: dict[int, None] = {}
        for value in some:
            at = place.get(str(value))
            if at is None and positions and isinstance(value, int) and 0 <= value < len(classes):
                at = value
            if at is not None:
                found[at] = None
        rows.append(list(found))
    most = max(map(len, rows), default=0)
    return torch.tensor([row + [-1] * (most - len(row)) for row in rows], dtype=torch.int64).view(len(rows), most)


def numerals(classes: Sequence[str]) -> bool:
    """Return True where all class names are whole numbers.

    >>> numerals(["0", "17"]), numerals(["0", "cat"]), numerals([])
    (True, False, False)
    """
    return bool(classes) and all(str(c).removeprefix("-").isdecimal() for c in classes)


def spell_labels(labels: Sequence[Any], classes: Mapping[str, Sequence[str]], *, positions: bool = False) -> list[Any]:
    """Return the labels with positions in `classes` written as names, which mean the same among other classes.

    Numbers stay where an attribute's classes are numerals, or hold one of its numbers as a name. positions: every
    number is a position all the same, as in CLIP_benchmark's layout.
    """
    meant = {}
    for name, names in classes.items():
        numbers = {str(v) for label in labels for v in values_of(label, name) if isinstance(v, int)}
        if numbers and (positions or (not numerals(names) and not numbers & set(map(str, names)))):
            meant[name] = list(names)

    def spell(name: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: spell(name, one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [spell(name, one) for one in value]
        known = meant.get(name, ())
        return known[value] if isinstance(value, int) and 0 <= value < len(known) else value

    return [spell("label", label) for label in labels] if meant else list(labels)


def attributes(labels: Sequence[Any]) -> list[str]:
    """Return the attributes that any of the labels has, in sorted order."""
    names: set[str] = set()
    for label in labels:
        names |= set(label) if isinstance(label, dict) else {"label"} if label is not None else set()
    return sorted(names)
