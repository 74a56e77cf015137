"""Labels as the shards have them -> which class each sample belongs to.

A label is an int, a str, a list of these, or a dict of attribute -> one of these; a plain one is the attribute "label".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def attribute(label: Any, name: str) -> list[Any]:
    """What one sample's label says of the attribute, as a list; empty where it says nothing."""
    if isinstance(label, dict):
        label = label.get(name)
    elif name != "label":
        return []
    if label is None:
        return []
    return list(label) if isinstance(label, (list, tuple)) else [label]


def memberships(labels: Sequence[Any], name: str, classes: Sequence[str]) -> Tensor:
    """(B, C) bool: sample b is of class c. A row without a true value is a sample without a (known) label.

    A str is a class name. An int is one too where the names are numerals ("7"), else it is the position in `classes`.
    """
    place = {str(c): i for i, c in enumerate(classes)}
    table = torch.zeros(len(labels), len(classes), dtype=torch.bool)
    for row, label in enumerate(labels):
        for value in attribute(label, name):
            at = place.get(str(value))
            if at is None and isinstance(value, int) and 0 <= value < len(classes):
                at = value
            if at is not None:
                table[row, at] = True
    return table


def attributes(labels: Sequence[Any]) -> list[str]:
    """The attributes that any of the labels has, in sorted order."""
    names: set[str] = set()
    for label in labels:
        names |= set(label) if isinstance(label, dict) else {"label"} if label is not None else set()
    return sorted(names)
