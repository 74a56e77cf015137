"""Labels: their attributes, and the class names of a set of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def attributes(label: Any) -> dict[str, Any]:
    """Return a label as attribute -> value. A plain one is the attribute "label", None has none."""
    if label is None:
        return {}
    return dict(label) if isinstance(label, Mapping) else {"label": label}


def in_words(label: Any, sign: str = " ") -> str:
    """Return a label as text: ``{shape: torus, material: metal}`` -> "shape torus, material metal", None -> ""."""
    if isinstance(label, Mapping):
        return ", ".join(f"{attribute}{sign}{value}" for attribute, value in label.items())
    if isinstance(label, list | tuple):
        return ", ".join(map(str, label))
    return "" if label is None else str(label)


def class_names(labels: Iterable[Any]) -> dict[str, list[str]]:
    """Return attribute -> its class names, sorted. Numbers are indices: 0..n-1 become the names "0", …, "n-1"."""
    seen: dict[str, set[Any]] = {}
    for label in labels:
        for attribute, value in attributes(label).items():
            seen.setdefault(attribute, set()).update(value if isinstance(value, list) else [value])
    return {attribute: _names(values) for attribute, values in sorted(seen.items())}


def _names(values: set[Any]) -> list[str]:
    if values and all(isinstance(v, int) for v in values) and min(values) >= 0 and max(values) < 100_000:
        return [str(i) for i in range(max(values) + 1)]
    return sorted(map(str, values))


def merge_classes(many: Iterable[Mapping[str, Sequence[str]]]) -> dict[str, list[str]]:
    """Return the classes of several sets: names in the order of the first set that has them."""
    out: dict[str, list[str]] = {}
    for classes in many:
        for attribute, names in classes.items():
            have = out.setdefault(attribute, [])
            have += [str(name) for name in names if str(name) not in have]
    return out
