"""Filters as SQL over the tables of an index. Values and names are parameters, never part of the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from align.search.leaves import kind_of
from align.search.where import Compare, Not, Some, Where

KINDS = {"text": 0, "number": 1, "flag": 2}
KEY = "key = (SELECT id FROM keys WHERE name = ?)"
SIGNS = {"eq": "=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}


class Condition(NamedTuple):
    """A condition on a row of ``items``, and its parameters."""

    sql: str
    values: list[Any]


def compile_filter(where: Where, bits: Mapping[str, int]) -> Condition:
    """Return a filter as a condition. bits: modality -> its bit in ``items.modalities``."""
    if isinstance(where, Compare):
        return _compare(where, bits)
    if isinstance(where, Not):
        inner = compile_filter(where.of, bits)
        return Condition(f"NOT {inner.sql}", inner.values)
    word, empty = ("OR", "0") if isinstance(where, Some) else ("AND", "1")
    parts = [compile_filter(inner, bits) for inner in where.of]
    sql = f" {word} ".join(part.sql for part in parts) or empty
    return Condition(f"({sql})", [value for part in parts for value in part.values])


def _compare(where: Compare, bits: Mapping[str, int]) -> Condition:
    if where.operator == "ne" or (where.operator == "exists" and not where.value):
        opposite = ("eq", where.value) if where.operator == "ne" else ("exists", True)
        inner = _compare(Compare(where.key, *opposite), bits)
        return Condition(f"NOT {inner.sql}", inner.values)
    match where.key:
        case "has":
            wanted = where.value if isinstance(where.value, tuple) else (where.value,)
            return Condition("(items.modalities & ?) != 0", [sum(bits.get(m, 0) for m in set(wanted))])
        case "key":
            return _column(where, "items.key")
        case "shard":
            inner = _column(where, "substr(name, 2)")
            return Condition(
                f"items.place IN (SELECT id FROM places WHERE name >= 's' AND name < 't' AND {inner.sql})", inner.values
            )
        case "caption":
            inner = _column(where, "value")
            return Condition(f"EXISTS (SELECT 1 FROM json_each(items.captions) WHERE {inner.sql})", inner.values)
        case "folder":
            return _folder(where.value if isinstance(where.value, tuple) else (where.value,))
    return _leaf(where)


def _leaf(where: Compare) -> Condition:
    sql = f"items.number IN (SELECT number FROM leaves WHERE {KEY}"
    if where.operator == "exists":
        return Condition(f"{sql})", [where.key])
    if where.operator == "in":
        pairs = [(KINDS[kind_of(value)], value) for value in where.value]
        listed = f"VALUES {', '.join('(?, ?)' for _ in pairs)}" if pairs else "SELECT 0, 0 WHERE 0"
        return Condition(f"{sql} AND (kind, value) IN ({listed}))", [where.key, *(x for pair in pairs for x in pair)])
    kind = KINDS[kind_of(where.value)]
    if where.operator == "contains":
        part = " OR listed = 0 AND instr(value, ?) > 0" if kind == KINDS["text"] else ""
        values = [where.key, kind, where.value, *([where.value] if part else [])]
        return Condition(f"{sql} AND kind = ? AND (listed = 1 AND value = ?{part}))", values)
    return Condition(f"{sql} AND kind = ? AND value {SIGNS[where.operator]} ?)", [where.key, kind, where.value])


def _folder(folders: Sequence[str]) -> Condition:
    relative = _leaf(Compare("folder", "in", folders))
    ends = [(f"f{folder}/", f"f{folder}0") for folder in folders if folder.startswith("/")]  # "0" follows "/"
    if not ends:
        return relative
    listed = ", ".join("(?, ?)" for _ in ends)
    sql = f"SELECT id FROM places, (VALUES {listed}) WHERE name >= column1 AND name < column2"
    return Condition(
        f"({relative.sql} OR items.place IN ({sql}))", [*relative.values, *(x for two in ends for x in two)]
    )


def _column(where: Compare, column: str) -> Condition:
    if where.operator == "exists":
        return Condition("1", [])
    if where.operator == "in":
        texts = [value for value in where.value if isinstance(value, str)]
        return Condition(f"{column} IN ({', '.join('?' for _ in texts)})", texts)
    if not isinstance(where.value, str):
        return Condition("0", [])
    if where.operator == "contains":
        return Condition(f"instr({column}, ?) > 0", [where.value])
    return Condition(f"{column} {SIGNS[where.operator]} ?", [where.value])
