"""A filter of items: a typed tree, written as plain data.

    {"label": "dog"}                                     equal; a label's attribute is "label.shape"
    {"year": {"gte": 2000, "lt": 2010}, "camera.iso": {"exists": true}}      keys of the json, all of them hold
    {"any": [{"label": "dog"}, {"not": {"year": {"in": [1999, 2000]}}}]}     "any", "all" and "not" join filters
    {"has": "audio"}                                     samples with a row of that modality

Operators: eq, ne, lt, lte, gt, gte, in, contains (a part of a text, or an entry of a list), exists.
Other names that are no keys of the json: "key", "folder" (of files: a path, with all below it), "shard", "caption".

A key has several values where the json has a list. A condition holds where it holds for one of them, and "ne" is the
opposite of "eq": items without the key pass it. Numbers compare with numbers, texts with texts by code point.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from operator import ge, gt, le, lt
from typing import Any, Literal, final, get_args

from align.search.leaves import RESERVED, plain

Operator = Literal["eq", "ne", "lt", "lte", "gt", "gte", "in", "contains", "exists"]
OPERATORS: tuple[Operator, ...] = get_args(Operator)
CONDITIONS, DEPTH, LISTED = 64, 8, 1000
"""Bounds of a filter: its conditions, its depth, and the values of an "in"."""

ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {"lt": lt, "lte": le, "gt": gt, "gte": ge}


@final
@dataclass(frozen=True)
class Compare:
    """A condition on one key. The value of "in" is a tuple."""

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
    where = _parse(tree, 1)
    found = len(list(conditions(where)))
    if found > CONDITIONS:
        raise ValueError(f"a filter has at most {CONDITIONS} conditions; this one has {found}")
    return where


def conditions(where: Where) -> Iterator[Compare]:
    """Yield the conditions of a filter, from left to right."""
    if isinstance(where, Compare):
        yield where
    else:
        for inner in (where.of,) if isinstance(where, Not) else where.of:
            yield from conditions(inner)


def check_keys(where: Where, known: Collection[str], modalities: Collection[str]) -> None:
    """Raise ValueError, with the nearest name, where a filter names a key or a modality that no item has."""
    for condition in conditions(where):
        if condition.key == "has":
            values = condition.value if isinstance(condition.value, tuple) else (condition.value,)
            for value in values:
                if value not in modalities:
                    raise ValueError(f"no item has {value!r}{_suggest(value, modalities)}")
        elif condition.key not in RESERVED and condition.key not in known:
            every = [*sorted(set(known) - set(RESERVED)), *RESERVED]
            raise ValueError(f"no item has the key {condition.key!r}{_suggest(condition.key, every)}")


def _parse(tree: Any, depth: int) -> Where:
    if not isinstance(tree, Mapping):
        raise ValueError(f'a filter is a mapping such as {{"label": "dog"}}; got {_cut(tree)}')
    if depth > DEPTH:
        raise ValueError(f"a filter is at most {DEPTH} deep")
    if len(tree) > CONDITIONS:
        raise ValueError(f"a filter has at most {CONDITIONS} conditions; this one has {len(tree)}")
    parts: list[Where] = []
    for key, value in tree.items():
        if key in ("any", "all"):
            if not isinstance(value, list | tuple) or not value or len(value) > CONDITIONS:
                raise ValueError(f"{key!r} joins a list of 1 to {CONDITIONS} filters; got {_cut(value)}")
            inner = tuple(_parse(one, depth + 1) for one in value)
            parts.append(Some(inner) if key == "any" else All(inner))
        elif key == "not":
            parts.append(Not(_parse(value, depth + 1)))
        elif isinstance(value, Mapping):
            if not value:
                raise ValueError(f"{key!r} has no operator; there are {', '.join(OPERATORS)}")
            parts += [_compare(str(key), operator, wanted) for operator, wanted in value.items()]
        else:
            parts.append(_compare(str(key), "eq", value))
    return parts[0] if len(parts) == 1 else All(tuple(parts))


def _compare(key: str, operator: Any, value: Any) -> Compare:
    key = str(plain(key))
    if operator not in OPERATORS:
        nested = f', or write the nested key "{key}.{operator}"' if isinstance(operator, str) else ""
        raise ValueError(f"{key!r}: no operator {_cut(operator)}{_suggest(str(operator), OPERATORS)}{nested}")
    if key in ("has", "folder") and operator not in ("eq", "ne", "in"):
        raise ValueError(f"{key!r} has the operators eq, ne and in; got {operator!r}")
    if operator == "exists":
        if not isinstance(value, bool):
            raise ValueError(f"{key!r}: exists is true or false; got {_cut(value)}")
        return Compare(key, operator, value)
    if operator == "in":
        if not isinstance(value, list | tuple) or len(value) > LISTED:
            raise ValueError(f"{key!r}: in has a list of at most {LISTED} values; got {_cut(value)}")
        return Compare(key, operator, tuple(_value(key, operator, one) for one in value))
    value = _value(key, operator, value)
    if isinstance(value, bool) and operator in ORDERS:
        raise ValueError(f"{key!r}: {operator} compares numbers or texts; got {_cut(value)}")
    return Compare(key, operator, value)


def _value(key: str, operator: str, value: Any) -> Any:
    wanted = plain(value)
    if wanted is None:
        hint = 'use {"in": [...]} or {"contains": ...}' if isinstance(value, list) else 'use {"exists": false} for null'
        raise ValueError(f"{key!r}: {operator} compares a text, a number or true and false; got {_cut(value)}; {hint}")
    if key in ("has", "folder") and not isinstance(wanted, str):
        raise ValueError(f"{key!r} compares a text; got {_cut(value)}")
    return (wanted.rstrip("/") or wanted) if key == "folder" and isinstance(wanted, str) else wanted


def _cut(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _suggest(name: Any, known: Collection[str]) -> str:
    near = get_close_matches(str(name), list(known), 1, 0.5)
    shown = list(known)
    more = f" and {len(shown) - 20} more" if len(shown) > 20 else ""
    start = f", did you mean {near[0]!r}? There are" if near else "; there are"
    return f"{start} {', '.join(shown[:20]) or 'none'}{more}"
