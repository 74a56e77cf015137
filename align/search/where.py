"""A filter of items: a typed tree, written as plain data.

    {"label": "dog"}                                     equal; a label's attribute is "label.shape"
    {"year": {"gte": 2000, "lt": 2010}, "camera.iso": {"exists": true}}      keys of the json, all of them hold
    {"any": [{"label": "dog"}, {"not": {"year": {"in": [1999, 2000]}}}]}     "any", "all" and "not" join filters
    {"has": "audio"}                                     samples with a row of that modality

Operators: eq, ne, lt, lte, gt, gte, in, contains (a part of a text, or an entry of a list), exists.
Other names that are no keys of the json: "key", "folder" (of files: a path, with all below it), "shard", "caption".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

Operator = Literal["eq", "ne", "lt", "lte", "gt", "gte", "in", "contains", "exists"]


@final
@dataclass(frozen=True)
class Compare:
    """A condition on one key."""

    key: str
    operator: Operator
    value: Any


@final
@dataclass(frozen=True)
class All:
    """Every filter of these lets the item through."""

    of: tuple[Where, ...]


@final
@dataclass(frozen=True)
class Some:
    """At least one filter of these lets the item through."""

    of: tuple[Where, ...]


@final
@dataclass(frozen=True)
class Not:
    """The filter does not let the item through."""

    of: Where


Where = Compare | All | Some | Not


def parse(tree: Mapping[str, Any]) -> Where:
    """Return the filter that plain data (JSON) states.

    Raises ValueError for an unknown operator, with the nearest, for a value that the operator cannot compare, and for
    more than 64 conditions or a depth above 8.
    """
    raise NotImplementedError


def matches(where: Where, item: Any, modalities: Any = ()) -> bool:
    """Return True where the filter lets an item through. modalities: those of which the item has rows."""
    raise NotImplementedError
