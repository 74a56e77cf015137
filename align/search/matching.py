"""A filter held against one item in memory."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from align.search.item import Item
from align.search.leaves import Leaf, kind_of, list_leaves, plain
from align.search.where import ORDERS, All, Compare, Not, Some, Where


def matches(where: Where, item: Item, modalities: Collection[str] = ()) -> bool:
    """Return True where the filter lets an item through. modalities: those of which the item has rows."""
    if isinstance(where, All):
        return all(matches(inner, item, modalities) for inner in where.of)
    if isinstance(where, Some):
        return any(matches(inner, item, modalities) for inner in where.of)
    if isinstance(where, Not):
        return not matches(where.of, item, modalities)
    if where.operator == "ne":
        return not matches(Compare(where.key, "eq", where.value), item, modalities)
    leaves = _leaves(where.key, item, modalities)
    if where.operator == "exists":
        return bool(leaves) == where.value
    return any(_holds(where, leaf) for leaf in leaves)


def _leaves(key: str, item: Item, modalities: Collection[str]) -> list[Leaf]:
    if key == "has":
        return [Leaf(key, m, False) for m in modalities]
    if key == "caption":
        return [Leaf(key, str(plain(caption)), False) for caption in item.captions]
    if key == "key":
        return [Leaf(key, str(plain(item.key)), False)]
    if key == "shard":
        return [Leaf(key, str(plain(item.place)), False)] if "shard" in item.source else []
    leaves = [leaf for leaf in list_leaves(item) if leaf.key == key]
    if key == "folder" and "file" in item.source:
        leaves += [Leaf(key, folder, False) for folder in _parents(str(plain(item.place)))]
    return leaves


def _parents(path: str) -> list[str]:
    steps = path.split("/")[:-1]
    return ["/".join(steps[: i + 1]) for i in range(1, len(steps))] if path.startswith("/") else []


def _holds(where: Compare, leaf: Leaf) -> bool:
    wanted: Any = where.value
    if where.operator == "in":
        return any(kind_of(leaf.value) == kind_of(value) and leaf.value == value for value in wanted)
    if kind_of(leaf.value) != kind_of(wanted):
        return False
    if where.operator == "eq":
        return leaf.value == wanted
    if where.operator == "contains":
        return leaf.value == wanted if leaf.listed else isinstance(leaf.value, str) and wanted in leaf.value
    return ORDERS[where.operator](leaf.value, wanted)
