"""Filters of the search page: its form's fields, the tree that they become, and the values to choose from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

from align.search.index import Facet

IS, FROM, TO = "is.", "from.", "to."  # before a key, in the name of a field
FEW = 8  # values that are shown at once
KEYS = 12


@final
@dataclass(frozen=True)
class Filter:
    """Conditions on one key: one of these values, and a range of numbers."""

    values: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None


class Choice(NamedTuple):
    """A value to choose. field: of the form. samples: that have it. chosen: it is among the filter's values."""

    text: str
    field: str
    samples: int
    chosen: bool


class Panel(NamedTuple):
    """The values of a key to choose from, most frequent first, or the range of a number.

    unlisted: rarer values, which are not among the choices.
    """

    key: str
    title: str
    choices: Sequence[Choice]
    more: Sequence[Choice]
    low: float | None
    high: float | None
    chosen: Filter
    unlisted: int = 0


def read_filters(fields: Iterable[tuple[str, Any]]) -> dict[str, Filter]:
    """Return the filter of each key that a form's fields name. A bound that is no number is none."""
    found: dict[str, Filter] = {}
    for name, value in fields:
        for mark in (IS, FROM, TO):
            if name.startswith(mark) and value != "":
                key = name.removeprefix(mark)
                old = found.get(key, Filter())
                if mark == IS:
                    found[key] = Filter((*old.values, read_value(value)), old.low, old.high)
                elif (number := _read_bound(value)) is not None:
                    low, high = (number, old.high) if mark == FROM else (old.low, number)
                    found[key] = Filter(old.values, low, high)
    return found


def write_filters(filters: Mapping[str, Filter]) -> list[tuple[str, str]]:
    """Return the fields that state filters."""
    fields = []
    for key, chosen in filters.items():
        fields += [(IS + key, write_value(value)) for value in chosen.values]
        fields += [(FROM + key, f"{chosen.low:.12g}")] if chosen.low is not None else []
        fields += [(TO + key, f"{chosen.high:.12g}")] if chosen.high is not None else []
    return fields


def make_where(filters: Mapping[str, Filter], lists: Iterable[str] = (), *, but: str = "") -> dict[str, Any] | None:
    """Return the filters as the tree that an index takes, or None.

    lists: keys whose values are lists. but: a key that is left out.
    """
    lists, trees = set(lists), []
    for key, chosen in filters.items():
        if key == but:
            continue
        if chosen.values and key in lists:
            trees.append({"any": [{key: {"contains": value}} for value in chosen.values]})
        elif chosen.values:
            trees.append({key: {"in": list(chosen.values)}})
        ends = {"gte": chosen.low, "lte": chosen.high}
        if limits := {name: end for name, end in ends.items() if end is not None}:
            trees.append({key: limits})
    return {"all": trees} if trees else None


def make_panels(facets: Mapping[str, Facet], filters: Mapping[str, Filter], samples: int) -> list[Panel]:
    """Return the panels of the keys by which a user would filter. samples: in the index.

    A key with a value of its own for nearly every sample has no panel, unless it is filtered by.
    """
    panels = []
    for key, facet in facets.items():
        chosen = filters.get(key, Filter())
        numbers = facet.kind == "number" and facet.distinct > FEW
        if not numbers and key not in filters and (facet.distinct < 2 or facet.distinct > max(FEW, samples // 2)):
            continue
        if numbers and facet.low == facet.high:
            continue
        values = [] if numbers else list(facet.values)
        known = {_mark(value) for value, _ in values}
        values += [(value, 0) for value in chosen.values if _mark(value) not in known]
        picked = {_mark(value) for value in chosen.values}
        choices = [
            Choice(_say(value), write_value(value), count, _mark(value) in picked)
            for value, count in values
            if count or _mark(value) in picked
        ]
        if not numbers and not choices:
            continue
        ends = (facet.low, facet.high) if numbers else (None, None)
        shown = max([FEW, *(i + 1 for i, choice in enumerate(choices) if choice.chosen)])
        unlisted = 0 if numbers else max(0, facet.distinct - len(facet.values))
        panels.append(Panel(key, key.removeprefix("label."), choices[:shown], choices[shown:], *ends, chosen, unlisted))
    return sorted(panels, key=lambda panel: panel.key not in filters)[:KEYS] if len(panels) > KEYS else panels


def write_value(value: Any) -> str:
    """Return a value as the text of a field: a text as it is, unless it would be read as another value."""
    if isinstance(value, str):
        return value if read_value(value) == value else json.dumps(value)
    return json.dumps(value)


def read_value(text: str) -> Any:
    """Return the value that a field states: JSON of a text, a number or a truth value, else the text itself."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    plain = isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    return value if plain else text


def _read_bound(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _mark(value: Any) -> str:
    return json.dumps(value)


def _say(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
