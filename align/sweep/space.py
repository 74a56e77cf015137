"""Search space of a sweep: ``KEY=VALUES`` as text, for any key of a config."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import yaml

FORMS = "KEY=A,B,C (choices), KEY=LOW..HIGH (a range) or KEY=LOW..HIGH:log (equal steps for equal factors)"


@final
@dataclass(frozen=True)
class Choice:
    """Values of a key to choose from, each as it would stand in a config."""

    values: tuple[Any, ...]


@final
@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included. whole: integers alone. log: equal steps for equal factors."""

    low: float
    high: float
    whole: bool
    log: bool


Space = Mapping[str, Choice | Range]


def read_space(texts: Sequence[str]) -> dict[str, Choice | Range]:
    """Return key -> values of texts such as ``optim.lr=1e-4..1e-2:log`` and ``model.dim=64,128``.

    Raises ValueError for a text of another form, for a key that comes twice, and for an empty range.

    >>> read_space(["model.dim=64,128", "data.batch=32..256:log"])["model.dim"]
    Choice(values=(64, 128))
    """
    space: dict[str, Choice | Range] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        key = key.removeprefix("--")
        if not (key and equals and values):
            raise ValueError(f"{text!r} is no part of a search space; give {FORMS}")
        if key in space:
            raise ValueError(f"the search space has {key} two times; give all of its values in one KEY=VALUES")
        space[key] = _read_range(text, values) if ".." in values else Choice(_read_choices(text, values))
    if not space:
        raise ValueError(f"a sweep needs a search space: {FORMS}")
    return space


def _read_choices(text: str, values: str) -> tuple[Any, ...]:
    """Return the values of a list, each read as YAML. Commas inside brackets and braces part nothing."""
    try:
        found = yaml.safe_load(f"[{values}]")
    except yaml.YAMLError as error:
        raise ValueError(f"{text!r}: the choices are no YAML ({' '.join(str(error).split())[:120]})") from error
    found = [_as_number(value) for value in found]
    if len({repr(value) for value in found}) != len(found):
        raise ValueError(f"{text!r} has a choice two times")
    return tuple(found)


def _as_number(value: Any) -> Any:
    """Return 0.0001 for "1e-4", which YAML reads as a text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _read_range(text: str, values: str) -> Range:
    ends, _, scale = values.partition(":")
    low, _, high = ends.partition("..")
    try:
        numbers = float(low), float(high)
    except ValueError:
        raise ValueError(f"{text!r}: {ends!r} is no range of numbers; give {FORMS}") from None
    if scale not in ("", "log"):
        raise ValueError(f"{text!r}: a range may end in ':log', not in {':' + scale!r}")
    if not (math.isfinite(numbers[0]) and math.isfinite(numbers[1]) and numbers[0] < numbers[1]):
        raise ValueError(f"{text!r}: the low end of a range is below its high end, and both are finite")
    if scale == "log" and numbers[0] <= 0:
        raise ValueError(f"{text!r}: a range with ':log' is above 0")
    whole = all(end.strip().lstrip("+-").isdigit() for end in (low, high))
    return Range(*numbers, whole, scale == "log")


def list_grid(space: Space) -> list[dict[str, Any]]:
    """Return every combination of a space of choices, the last key fastest. Raises ValueError where it has a range."""
    ranges = [key for key, values in space.items() if isinstance(values, Range)]
    if ranges:
        raise ValueError(f"a grid is of choices alone; {', '.join(ranges)} has a range: list its values, as KEY=A,B,C")
    lists = [values.values for values in space.values() if isinstance(values, Choice)]
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*lists)]
