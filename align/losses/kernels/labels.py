"""Labels of rows, as places of their classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def check_labels(labels: Tensor, n: int, count: int) -> None:
    """Raise ValueError unless labels are (n, K) places below ``count``, or -1."""
    if labels.ndim != 2 or len(labels) != n:
        raise ValueError(f"labels are (n, K), with n = {n}; got the shape {tuple(labels.shape)}")
    if labels.numel() and int(labels.max()) >= count:
        raise ValueError(f"a label is a class 0 to {count - 1}, or -1; got {int(labels.max())}")


def as_hot(labels: Tensor, count: int) -> Tensor:
    """Return (n, count) bool, true at the classes of each row, of places (n, K). -1 is no class."""
    hot = torch.zeros(len(labels), count + 1, dtype=torch.bool, device=labels.device)
    return hot.scatter(1, torch.where(labels >= 0, labels, count), True)[:, :count]


def find_places(labels: Sequence[Any], attribute: str, classes: Sequence[str]) -> Tensor:
    """Return (B, K) int64, the places in ``classes`` of each sample's labels, then -1: K is the most of a sample.

    A label is an int, a str, a list of these, or a dict of attribute -> one of these. A plain one is the attribute
    "label". A str is a class name. An int is the class of that name, or else a place in ``classes``. Labels that are
    no class are left out.
    """
    place = {str(name): i for i, name in enumerate(classes)}
    found = []
    for label in labels:
        values = label.get(attribute) if isinstance(label, dict) else label if attribute == "label" else None
        several = values if isinstance(values, list | tuple) else [values]
        places = [place.get(str(v), v if isinstance(v, int) else -1) for v in several if v is not None]
        found.append([*dict.fromkeys(p for p in places if 0 <= p < len(classes))])
    most = max(map(len, found), default=0)
    return torch.tensor([some + [-1] * (most - len(some)) for some in found], dtype=torch.int64).view(len(found), most)
