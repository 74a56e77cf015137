"""The query of the search page: read from the fields of its form or of an address, and written as an address."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, final
from urllib.parse import urlencode

from align.serve.page.filters import Filter, read_filters, write_filters
from align.serve.page.trouble import Trouble
from align.serve.page.vector import read_vector, write_vector

Fields = Sequence[tuple[str, Any]]
"""Names and values of a form in the order of the document."""

FIRST, MOST = 24, 240  # hits on a page
PARTS, CLASSES = 8, 100


@final
@dataclass(frozen=True)
class Asked:
    """One part of a query.

    Args:
        form: "words", an "item" of the index by its number, a "file", or the "vector" that a file became.
        modality: its tower. "" for a file whose name decides.
        value: the words, the number, the file's bytes, or the embedding (D,) as an array.
        weight: its factor, negative for less of it.
        name: of a file.
    """

    form: Literal["words", "item", "file", "vector"]
    modality: str
    value: Any
    weight: float = 1.0
    name: str = ""


@final
@dataclass(frozen=True)
class Query:
    """A query as the page states it.

    Args:
        of: the modality to look among. k: hits.
        captions: True: the words are looked up in the captions too. fold: near duplicates become one hit.
        threshold: hits with a lower score are hidden. classes: names that a file is told apart by.
    """

    parts: Sequence[Asked] = ()
    of: str = ""
    k: int = FIRST
    filters: Mapping[str, Filter] = field(default_factory=dict)
    captions: bool = False
    fold: bool = False
    threshold: float | None = None
    classes: Sequence[str] = ()

    @property
    def words(self) -> str:
        """The words of all parts that ask for more of them."""
        return " ".join(part.value for part in self.parts if part.form == "words" and part.weight > 0)

    @property
    def in_address(self) -> bool:
        """True where an address can hold the whole query."""
        return all(part.form in ("words", "item") for part in self.parts)

    def address(self, **changes: Any) -> str:
        """Return the query, with some fields changed, as a relative address. Files are left out."""
        return "?" + urlencode(write_fields(replace(self, **changes), files=False))


def read_query(fields: Fields, texts: Sequence[str], among: Sequence[str]) -> Query:
    """Return the query that a form's fields state.

    The fields ``weight`` and ``minus`` are about the parts before them, back to the last ``weight``. ``as`` is the
    modality of the files before it. ``drop`` is the place of a chip that the user takes away. A chip is a part that is
    not the first ``text``.

    Args:
        texts: modalities that words ask in. The first is asked.
        among: modalities that can be looked among. The first is the default.

    Raises Trouble.
    """
    parts: list[Asked] = []
    new: list[int] = []  # parts whose weight has not come yet
    recent: list[int] = []  # parts that the last weight was about
    less: set[int] = set()
    chips: list[int] = []  # places of parts that are chips
    typed = False  # the text field has come
    for name, value in fields:
        first, typed = name == "text" and not typed, typed or name == "text"
        match name:
            case "text" if value.strip():
                if not texts:
                    raise Trouble("This model reads no words; ask with a file.", "parts")
                parts.append(Asked("words", texts[0], " ".join(value.split())))
            case "item":
                modality, number = _read_item(value)
                parts.append(Asked("item", modality, number))
            case "file":
                data, label = value
                parts.append(Asked("file", "", data, name=label))
            case "vector":
                modality, label, vector = read_vector(value)
                parts.append(Asked("vector", modality, vector, 1.0, label))
            case "as":
                for i in new:
                    if parts[i].form == "file" and not parts[i].modality:
                        parts[i] = replace(parts[i], modality=value)
                continue
            case "weight":
                weight = _read_number(value, "a weight", "parts", 1.0)
                for i in new:
                    parts[i] = replace(parts[i], weight=weight)
                recent, new = new, []
                continue
            case "minus":
                less |= set(new or recent)
                continue
            case _:
                continue
        new.append(len(parts) - 1)
        chips += [] if first else [len(parts) - 1]
    parts = [replace(part, weight=-abs(part.weight)) if i in less else part for i, part in enumerate(parts)]
    last = dict(fields)
    if (dropped := str(last.get("drop", ""))).isdecimal() and len(dropped) < 4 and int(dropped) < len(chips):
        del parts[chips[int(dropped)]]
    if len(parts) > PARTS:
        raise Trouble(f"A query has at most {PARTS} parts; this one has {len(parts)}.", "parts")
    of = last.get("of") or (among[0] if among else "")
    if not among:
        raise Trouble("The index is empty; `align index add` fills it.", status=404)
    if of not in among:
        raise Trouble(f"The index has no {of!r} to look among; it has {_list(among)}.", "of")
    threshold = last.get("threshold") or ""
    return Query(
        tuple(part for part in parts if part.weight),
        of,
        min(MOST, max(1, int(_read_number(last.get("k", ""), "the number of results", "", FIRST)))),
        read_filters(fields),
        bool(last.get("captions")),
        bool(last.get("fold")),
        _read_number(threshold, "the least score", "", 0.0) if threshold else None,
        _split(str(last.get("classes", ""))),
    )


def write_fields(query: Query, *, files: bool = True) -> list[tuple[str, str]]:
    """Return the fields that state a query. files: with the vectors that files became."""
    fields: list[tuple[str, str]] = []
    weighted = any(part.weight != 1 for part in query.parts)
    for part in query.parts:
        match part.form:
            case "words":
                fields.append(("text", part.value))
            case "item":
                fields.append(("item", f"{part.modality}:{part.value}"))
            case "vector" if files:
                fields.append(("vector", write_vector(part.modality, part.value, part.name)))
            case _:
                continue
        if weighted:
            fields.append(("weight", f"{part.weight:g}"))
    fields.append(("of", query.of))
    fields += write_filters(query.filters)
    fields += [(name, "on") for name in ("captions", "fold") if getattr(query, name)]
    if query.threshold is not None:
        fields.append(("threshold", f"{query.threshold:g}"))
    if query.classes:
        fields.append(("classes", ", ".join(query.classes)))
    if query.k != FIRST:
        fields.append(("k", str(query.k)))
    return fields


def _read_item(value: str) -> tuple[str, int]:
    modality, _, number = value.partition(":")
    if not number.isdecimal() or len(number) > 18:
        raise Trouble(f"{value[:60]!r} is no item; one is written image:12.", "parts")
    return modality, int(number)


def _read_number(value: str, name: str, place: str, default: float) -> float:
    if not value.strip():
        return default
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not abs(number) <= 1e6:
        raise Trouble(f"{value[:60]!r} is no number for {name}.", place)
    return number


def _split(names: str) -> tuple[str, ...]:
    """Return class names that stand between commas, each once."""
    return tuple(dict.fromkeys(name for part in names.split(",") if (name := part.strip())))[:CLASSES]


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"
