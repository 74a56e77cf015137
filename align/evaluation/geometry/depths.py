"""Prototypes and outliers by statistical depth, of a modality and of its classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from align.evaluation.geometry.parts import Part, select
from align.evaluation.labels import memberships
from align.metrics.geometry import depth
from align.page.section import Gallery
from align.values import Embeddings

SHOWN = 3  # prototypes, and outliers, of a modality
CLASSES = 4  # prototypes, one a class, and outliers, of an attribute
EQUAL = 1e-9  # difference of two depths up to which their rows are taken as equal


def galleries(
    table: Embeddings, parts: Mapping[str, Part], classes: Mapping[str, Mapping[str, object]]
) -> list[Gallery]:
    """Return for each modality the samples of the deepest and the least deep rows, and for each attribute of it the
    deepest row of the first classes, and the rows that are least deep in their class.

    A row that is not deep in its class may have a wrong label. classes: attribute -> label -> its name.
    """
    out = []
    for m, part in parts.items():
        values = depth(part.rows)
        order = _distinct(values)
        told: dict[str, str] = {}
        for kind, places in (("prototype", order[:SHOWN]), ("outlier", order[SHOWN:][::-1][:SHOWN])):
            for i in places:
                told.setdefault(table.ids[int(part.sample[i])], f"{m}: {kind}, depth {float(values[i]):.3f}")
        out.append(Gallery(list(told), told))
        for attribute, names in classes.items():
            member = memberships(table.labels, attribute, list(names))
            if found := _of_classes(table, m, part, member, list(names)):
                out.append(Gallery(list(found), found))
    return out


def _distinct(values: Tensor) -> list[int]:
    """Return the places of depths (n,), the highest first, without those that equal another: equal rows are one."""
    order = values.argsort(descending=True, stable=True)
    sorted_values = values[order]
    new = torch.ones(len(values), dtype=torch.bool)
    new[1:] = (sorted_values[:-1] - sorted_values[1:]) > EQUAL
    return order[new].tolist()


def _of_classes(table: Embeddings, m: str, part: Part, member: Tensor, names: Sequence[str]) -> dict[str, str]:
    """Return key -> caption. member: (B, C) bool."""
    prototypes: dict[str, str] = {}
    outliers: list[tuple[float, str, str]] = []
    places = torch.arange(len(part.sample)) if part.rows.index is None else part.rows.index
    for c, name in enumerate(names):
        inside = member[part.sample, c].nonzero().flatten()
        if len(inside) < SHOWN:
            continue
        values = depth(select(part.rows.values, places[inside]))
        key = table.ids[int(part.sample[inside[int(values.argmax())]])]
        if len(prototypes) < CLASSES:
            prototypes.setdefault(key, f"{m}: prototype of {name}, depth {float(values.max()):.3f}")
        for i in _distinct(values)[: -CLASSES - 1 : -1]:
            outlier = table.ids[int(part.sample[inside[i]])]
            outliers.append((float(values[i]), outlier, f"{m}: outlier of {name}, depth {float(values[i]):.3f}"))
    told = dict(prototypes)
    for _, key, caption in sorted(outliers):
        if len(told) < len(prototypes) + CLASSES:
            told.setdefault(key, caption)
    return told
