"""The values of an item that filters compare, by key."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from align.search.item import Item

RESERVED = ("has", "key", "shard", "folder", "caption")
"""Keys that are no keys of the json. A key of the json with such a name is not filtered by."""
LARGEST = 2**63 - 1
LISTED = 256  # entries of a list that is filtered by

Value = str | int | float | bool


class Leaf(NamedTuple):
    """One value of a key. listed: it is an entry of a list."""

    key: str
    value: Value
    listed: bool


def plain(value: Any) -> Value | None:
    """Return a value as filters compare it, or None where they cannot (null, NaN, a list, a mapping).

    Bytes of a file's name that are no UTF-8 become ``\\udcXX``. Integers beyond 64 bits become floats.
    """
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -LARGEST <= value <= LARGEST else _wide(value)
    return value if isinstance(value, float) and not math.isnan(value) else None


def kind_of(value: Value) -> str:
    """Return "flag", "number" or "text". Values of different kinds are never equal."""
    return "flag" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


def list_leaves(item: Item) -> list[Leaf]:
    """Return the values of an item's label and json, and the folders of its files.

    A nested key has dots: "camera.iso". Mappings in a list are walked as if each stood there alone. A list of more than
    256 entries is no value: it is data, such as an embedding.
    """
    found = list(_walk("label", item.label, False))
    for key, value in _name_keys(item.json).items():
        if plain(key) not in ("label", *RESERVED):
            found += _walk(key, value, False)
    if "file" in item.source:
        steps = item.key.split("/")[:-1]
        found += [Leaf("folder", str(plain("/".join(steps[: i + 1]))), False) for i in range(len(steps))]
    return list({(leaf, kind_of(leaf.value)): leaf for leaf in found}.values())  # 1 == True, which are two values


def _name_keys(value: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a mapping with the names that JSON gives its keys, so that an item has the same values when it is read."""
    return {name if isinstance(name, str) else json.dumps(name): inner for name, inner in value.items()}


def _wide(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _walk(key: str, value: Any, listed: bool) -> Iterator[Leaf]:
    pending = [(key, value, listed)]
    while pending:
        key, value, listed = pending.pop()
        if isinstance(value, Mapping):
            pending += [(f"{key}.{name}", inner, listed) for name, inner in _name_keys(value).items()]
        elif isinstance(value, list | tuple):
            pending += [(key, inner, True) for inner in value] if len(value) <= LISTED else []
        elif (leaf := plain(value)) is not None:
            yield Leaf(str(plain(key)), leaf, listed)
