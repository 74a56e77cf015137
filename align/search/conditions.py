"""Filters as people type them: the conditions of ``align shards filter``, or JSON."""

from __future__ import annotations

import ast
import json
from itertools import pairwise
from typing import Any

from align.curation.cut.expression import Expression
from align.search.where import Where, parse

COMPARE: dict[type, str] = {ast.Eq: "eq", ast.Lt: "lt", ast.LtE: "lte", ast.Gt: "gt", ast.GtE: "gte"}
TURNED = {"eq": "eq", "lt": "gt", "lte": "gte", "gt": "lt", "gte": "lte"}
Tree = dict[str, Any]


def read_filter(text: str) -> Where:
    """Return the filter that a text states.

    ``year >= 2000 and label["shape"] == "cone"`` is of the language of ``align shards filter`` without its arithmetic
    and calls: a condition compares a name with a value. ``{"year": {"gte": 2000}}`` is JSON, see
    ``align.search.where``. As in that language, an item that lacks a name of the condition does not pass, but for
    ``is None``, which asks for such items. ``"red" in caption`` looks for a part of a text or an entry of a list, and
    ``has_audio`` for items with a row of that modality.

    Raises ValueError for text that is neither, with the part that an index cannot answer.
    """
    if text.lstrip().startswith("{"):
        try:
            tree = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"{text[:80]!r} begins like JSON and is none: {' '.join(str(error).split())}") from None
        return parse(tree)
    Expression(text)  # raises for anything that is not in the language
    source = text.strip()
    return parse(_tree(ast.parse(source, mode="eval").body, source))


def _tree(node: ast.AST, source: str) -> Tree:
    match node:
        case ast.BoolOp(op=op, values=parts):
            return {"all" if isinstance(op, ast.And) else "any": [_tree(part, source) for part in parts]}
        case ast.UnaryOp(op=ast.Not(), operand=one):
            return _without(_tree(one, source))
        case ast.Name(id=name) if name.startswith("has_"):
            return {"has": name.removeprefix("has_")}
        case ast.Name() | ast.Subscript():
            return {_key(node, source): {"eq": True}}
        case ast.Compare(left=left, ops=ops, comparators=others):
            sides = pairwise([left, *others])
            found = [_compare(op, a, b, source) for op, (a, b) in zip(ops, sides, strict=True)]
            return found[0] if len(found) == 1 else {"all": found}
    raise _refusal(node, source)


def _compare(op: ast.AST, a: ast.AST, b: ast.AST, source: str) -> Tree:
    if isinstance(op, ast.In | ast.NotIn):
        found = _contains(a, b, source)
        return found if isinstance(op, ast.In) else _without(found)
    if isinstance(b, ast.Name | ast.Subscript):  # 2000 <= year
        if not _is_value(a):
            raise _refusal(a, source)
        a, b, turn = b, a, True
    else:
        turn = False
    key, value = _key(a, source), _value(b, source)
    if value is None and isinstance(op, ast.Is | ast.Eq | ast.IsNot | ast.NotEq):
        return {key: {"exists": isinstance(op, ast.IsNot | ast.NotEq)}}
    if isinstance(op, ast.NotEq):
        return _without({key: {"eq": value}})
    name = COMPARE[type(op)]
    return {key: {TURNED[name] if turn else name: value}}


def _contains(a: ast.AST, b: ast.AST, source: str) -> Tree:
    if isinstance(b, ast.Name | ast.Subscript):
        return {_key(b, source): {"contains": _value(a, source)}}
    values = _value(b, source)
    if not isinstance(values, list):
        raise _refusal(b, source)
    return {_key(a, source): {"in": values}}


def _without(tree: Tree) -> Tree:
    """Return the filter of items that have the names of this one and that it does not let through."""
    missing = {key for key, wanted in _conditions(tree) if isinstance(wanted, dict) and "exists" in wanted}
    names = sorted({key for key, _ in _conditions(tree)} - missing - {"has", "folder"})
    return {"not": tree, **{key: {"exists": True} for key in names}}


def _conditions(tree: Tree) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        if key in ("all", "any"):
            found += [pair for part in value for pair in _conditions(part)]
        elif key == "not":
            found += _conditions(value)
        else:
            found.append((key, value))
    return found


def _key(node: ast.AST, source: str) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Subscript(value=one, slice=ast.Constant(value=str(name))):
            return f"{_key(one, source)}.{name}"
    raise _refusal(node, source)


def _is_value(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant | ast.List | ast.Tuple | ast.UnaryOp)


def _value(node: ast.AST, source: str) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value(part, source) for part in parts]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as op, operand=ast.Constant(value=int() | float() as value)):
            return -value if isinstance(op, ast.USub) else value
    raise _refusal(node, source)


def _refusal(node: ast.AST, source: str) -> ValueError:
    part = ast.get_source_segment(source, node) or type(node).__name__
    return ValueError(
        f"an index cannot answer {part[:80]!r}: a condition compares a name with a value, as in "
        'year >= 2000 and label == "cat"'
    )
