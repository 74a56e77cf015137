"""A small language of conditions over a sample: ``width >= 256 and label == 'cat'``. It can only compare.

- values: names of columns, numbers, strings, True, False, None, lists, ``NAME["key"]``
- operators: and, or, not, == != < <= > >=, in, not in, is None, and + - * / // % of numbers
- calls: len(), abs(), min(), max(), round(), lower(), and of two modalities score(image, text), cosine(image, text)

There are no attributes and no other calls.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, final

LONGEST = 2000  # characters
DEEPEST = 50  # levels
COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
CALLS: dict[str, Callable[..., Any]] = {
    "len": len,
    "abs": abs,
    "min": min,
    "max": max,
    "round": round,
    "lower": lambda text: text.lower() if isinstance(text, str) else _wrong(f"lower() of a {type(text).__name__}"),
}


PAIRED = ("score", "cosine")


class Pair(NamedTuple):
    """Two modalities that a condition compares. function: "score" or "cosine"."""

    a: str
    b: str
    function: str = "score"

    def __str__(self) -> str:
        return f"{self.function}({self.a}, {self.b})"


class Missing(Exception):
    """A column that the sample does not have. The message is its name."""


@final
class Expression:
    """A parsed condition. ``names``: the columns that it uses. ``pairs``: each score() and cosine() in it.

    Raises ValueError, with the part, for anything that is not in the language.
    """

    def __init__(self, text: str):
        self.text = text
        self.names: set[str] = set()
        self.pairs: set[Pair] = set()
        if len(text) > LONGEST:
            raise ValueError(f"a condition has at most {LONGEST} characters; this has {len(text)}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about a backslash in a string
                self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError) as error:
            said = getattr(error, "msg", error)
            raise ValueError(f"{text!r} is no condition: {said}; e.g. width >= 256 and label == 'cat'") from None
        except (RecursionError, MemoryError):
            raise ValueError("the condition is nested too deeply") from None
        self._check(self._tree)

    def why_not(self, columns: Callable[[str], Any], scores: Mapping[Pair, float | None]) -> str | None:
        """Return None where a sample meets the condition, else the reason in words.

        The reason is the first part of an ``and`` that is false, ``no NAME`` for a column that the sample lacks, or the
        values that cannot be compared.

        columns: returns the value of a name, or raises Missing. scores: the number of each pair, None where the sample
        lacks one of the two. Raises ValueError for a condition that is neither true nor false.
        """
        tree = self._tree
        parts = tree.values if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And) else [tree]
        for part in parts:
            try:
                value = self._value(part, columns, scores)
            except Missing as error:
                return f"no {error}"
            except (TypeError, ArithmeticError) as error:
                return f"{self._source(part)}: {error}"
            if not isinstance(value, bool):
                said = repr(self._source(part))
                raise ValueError(f"{said} gives {value!r:.60}, not true or false; compare it with something")
            if not value:
                return f"not {self._source(part)}"
        return None

    def _check(self, node: ast.AST, depth: int = 0) -> None:
        if depth > DEEPEST:
            raise ValueError(f"the condition is nested too deeply (more than {DEEPEST} levels)")
        match node:
            case ast.BoolOp(values=parts) | ast.List(elts=parts) | ast.Tuple(elts=parts):
                pass
            case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.UAdd(), operand=one):
                parts = [one]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
                parts = [left, right]
            case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in COMPARE for op in ops):
                parts = [left, *others]
                for op, other in zip(ops, others, strict=True):
                    if isinstance(op, ast.Is | ast.IsNot) and getattr(other, "value", 0) is not None:
                        raise ValueError(f"{self._source(node)!r}: 'is' is for None alone; use ==")
            case ast.Constant(value=None | bool() | int() | float() | str()):
                parts = []
            case ast.Name(id=name):
                self.names.add(name)
                parts = []
            case ast.Subscript(value=one, slice=ast.Constant(value=str() | int())):
                parts = [one]
            case ast.Call(func=ast.Name(id=name), args=[ast.Name(id=a), ast.Name(id=b)], keywords=[]) if name in PAIRED:
                self.pairs.add(Pair(a, b, name))
                parts = []
            case ast.Call(func=ast.Name(id=name), args=parts, keywords=[]) if name in CALLS and parts:
                pass
            case _:
                raise ValueError(
                    f"{self._source(node)!r} is not allowed in a condition; it has names, numbers, strings, "
                    "comparisons, and, or, not, in, arithmetic, "
                    f'NAME["key"], {"(), ".join(CALLS)}(), score(image, text) and cosine(image, text)'
                )
        for part in parts:
            self._check(part, depth + 1)

    def _source(self, node: ast.AST) -> str:
        return (ast.get_source_segment(self.text.strip(), node) or type(node).__name__)[:80]

    def _value(self, node: ast.AST, columns: Callable[[str], Any], scores: Mapping[Pair, Any]) -> Any:
        def of(part: ast.AST) -> Any:
            return self._value(part, columns, scores)

        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return columns(name)
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                return [of(part) for part in parts]
            case ast.BoolOp(op=ast.And(), values=parts):
                return all(_truth(of(part)) for part in parts)
            case ast.BoolOp(values=parts):
                return any(_truth(of(part)) for part in parts)
            case ast.UnaryOp(op=ast.Not(), operand=one):
                return not _truth(of(one))
            case ast.UnaryOp(op=op, operand=one):
                return -_number(of(one)) if isinstance(op, ast.USub) else _number(of(one))
            case ast.BinOp(left=left, op=op, right=right):
                return ARITHMETIC[type(op)](_number(of(left)), _number(of(right)))
            case ast.Compare(left=left, ops=ops, comparators=others):
                a = of(left)
                for op, other in zip(ops, others, strict=True):
                    b = of(other)
                    if not COMPARE[type(op)](a, b):
                        return False
                    a = b
                return True
            case ast.Subscript(value=one, slice=ast.Constant(value=key)):
                found = of(one)
                if isinstance(found, dict) and key in found:
                    return found[key]
                if isinstance(found, list | str) and isinstance(key, int) and -len(found) <= key < len(found):
                    return found[key]
                raise Missing(self._source(node))
            case ast.Call(func=ast.Name(id=name), args=[ast.Name(id=a), ast.Name(id=b)]) if name in PAIRED:
                found = scores.get(pair := Pair(a, b, name))
                if found is None:
                    raise Missing(str(pair))
                return found
            case ast.Call(func=ast.Name(id=name), args=parts):
                return CALLS[name](*[of(part) for part in parts])
        raise TypeError(f"{type(node).__name__} has no value")  # not reached: _check refuses such a node


def _truth(value: Any) -> bool:
    return value if isinstance(value, bool) else _wrong(f"{value!r:.60} is not true or false")


def _number(value: Any) -> Any:
    return value if isinstance(value, int | float) else _wrong(f"{value!r:.60} is no number")


def _wrong(message: str) -> Any:
    raise TypeError(message)
