"""Composed queries on the world: "this cone, but of wood"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from align.quickstart.world import ATTRIBUTES

PHRASES = {
    "shape": "a {material} {shape}",
    "material": "a {material} {shape}",
    "color": "a {color} {shape}",
    "size": "a {size} {shape}",
}
"""Attribute that changes -> a caption that names it, one of those that the world's partial captions have."""
SUBSET = 5


def compose_queries(labels: Mapping[str, Mapping[str, str]], seed: int = 0) -> list[dict[str, Any]]:
    """Return one query for each solid that has targets: "this one, but …" with one attribute changed.

    Targets are all solids that have the wanted value and the reference's three other attributes. The subset has the
    targets' hardest rivals: the five solids that share most attributes with a target, itself and the reference apart.

    labels: key -> attribute -> value of each solid. seed: of the choice among a reference's possible changes, and of
    the order of rivals that share as many attributes.

    A query has the names of ``align.evaluation.ComposedQuery``, and ``changed``, the attribute.
    """
    keys = list(labels)
    number = {key: i for i, key in enumerate(keys)}
    table = np.array([[labels[key][name] for name in ATTRIBUTES] for key in keys])  # (n, 4)
    by_label: dict[tuple[str, ...], list[str]] = {}
    for key, row in zip(keys, table.tolist(), strict=True):
        by_label.setdefault(tuple(row), []).append(key)
    rng, queries = np.random.default_rng(seed), []
    for key, row in zip(keys, table.tolist(), strict=True):
        changes = _list_changes(row, by_label)
        if not changes:
            continue
        name, wanted = changes[int(rng.integers(len(changes)))]
        before = dict(zip(ATTRIBUTES, row, strict=True))
        after = dict(zip(ATTRIBUTES, wanted, strict=True))
        targets = by_label[tuple(wanted)]
        rivals = _find_rivals(table, wanted, {number[one] for one in (key, *targets)}, rng)
        queries.append(
            {
                "reference": key,
                "text": _spell(PHRASES[name].format(**after)),
                "before": _spell(PHRASES[name].format(**before)),
                "targets": list(targets),
                "subset": [*targets, *(keys[i] for i in rivals)],
                "changed": name,
            }
        )
    return queries


def _list_changes(row: Sequence[str], by_label: Mapping[tuple[str, ...], Any]) -> list[tuple[str, list[str]]]:
    """Return (attribute, label) of each change of one attribute that some solid shows."""
    found = []
    for place, (name, values) in enumerate(ATTRIBUTES.items()):
        for value in values:
            wanted = [*row[:place], value, *row[place + 1 :]]
            if value != row[place] and tuple(wanted) in by_label:
                found.append((name, wanted))
    return found


def _find_rivals(table: np.ndarray, wanted: Sequence[str], without: set[int], rng: np.random.Generator) -> list[int]:
    """Return the places of the solids that share most attributes with the wanted label."""
    shared = (table == np.array(wanted)).sum(1) + rng.random(len(table)) / 2
    return [i for i in np.argsort(-shared).tolist() if i not in without][:SUBSET]


def _spell(text: str) -> str:
    return text.replace("a o", "an o", 1) if text.startswith("a o") else text
