"""The values of the page's templates: the cards of a search, the chips of its query, and the sentences between."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from align.data.labels import in_words
from align.search.item import Found, Hit, Item
from align.serve.page.looks import Look, find_look
from align.serve.page.query import Asked, Query
from align.serve.page.space import Space
from align.serve.page.vector import write_vector

SAME = 12  # folded samples that a card shows
LONGEST = 160  # characters of a name, which is read out with each picture


class Bar(NamedTuple):
    """The cosine of one part. left, width: of its bar, in hundredths."""

    name: str
    value: float
    left: float
    width: float


class Small(NamedTuple):
    """A folded sample, shown small."""

    number: int
    title: str
    look: Look


class Card(NamedTuple):
    """A hit.

    text: its whole caption. more, add, less: addresses of queries like it, with it, and with less like it. below: its
    score is under the threshold. folded: number of near duplicates, of which ``same`` are shown. heat: address of the
    words' heat map over its picture, "" of none.
    """

    rank: int
    score: float
    number: int
    title: str
    text: str
    about: str
    look: Look
    bars: Sequence[Bar]
    same: Sequence[Small]
    folded: int
    text_rank: int | None
    more: str
    add: str
    less: str
    below: bool
    heat: str


class Chip(NamedTuple):
    """A part of the query in the form. field, value: that state it. look: of an item."""

    place: int
    modality: str
    title: str
    field: str
    value: str
    weight: float
    minus: bool
    look: Look | None


async def make_cards(found: Found, query: Query, space: Space) -> list[Card]:
    """Return the cards of the hits."""
    numbers = [number for hit in found.hits for number in hit.same[:SAME]]
    items = dict(zip(numbers, await space.items(numbers), strict=True)) if numbers else {}
    low, high = _ends(found.hits)
    return list(await asyncio.gather(*(_card(hit, query, space, items, low, high) for hit in found.hits)))


async def _card(hit: Hit, query: Query, space: Space, items: Mapping[int, Item], low: float, high: float) -> Card:
    look = await find_look(space, hit.sample, hit.item, query.of)
    same = [
        Small(number, name_item(items[number]), await find_look(space, number, items[number], query.of))
        for number in hit.same[:SAME]
    ]
    bars = []
    for name, value in hit.cosines.items():
        start, end = sorted((0.0, value))
        bars.append(
            Bar(
                name.replace("-", "− ", 1) if name[:1] == "-" else name,
                value,
                100 * (start - low) / (high - low),
                100 * (end - start) / (high - low),
            )
        )
    part = Asked("item", query.of, hit.sample)
    kept = [old for old in query.parts if (old.form, old.modality, old.value) != ("item", query.of, hit.sample)]
    return Card(
        hit.rank,
        hit.score,
        hit.sample,
        name_item(hit.item),
        _describe_whole(hit.item),
        describe_item(hit.item, look),
        look,
        bars,
        same,
        len(hit.same),
        hit.text_rank,
        query.address(parts=[part], captions=False, classes=(), threshold=None, k=Query.k),
        query.address(parts=[*kept, part], threshold=None, k=Query.k),
        query.address(parts=[*kept, Asked("item", query.of, hit.sample, -0.5)], threshold=None, k=Query.k),
        query.threshold is not None and hit.score < query.threshold,
        await space.heat_link(hit.sample, query.of, query.words) if look.element == "picture" else "",
    )


def _ends(hits: Sequence[Hit]) -> tuple[float, float]:
    """Return the ends of the bars' axis, which holds zero."""
    values = [value for hit in hits for value in hit.cosines.values()]
    return min([0.0, *values]), max([0.05, *values])


def name_item(item: Item) -> str:
    """Return an item's first caption, else its label in words, else its key. A long one is cut."""
    name = _describe_whole(item)
    return name if len(name) <= LONGEST else name[: LONGEST - 1].rstrip() + "…"


def _describe_whole(item: Item) -> str:
    return next((line for line in item.captions if line), "") or in_words(item.label) or item.key


def describe_item(item: Item, look: Look) -> str:
    """Return the line under an item's name. It is the name of an item whose captions are shown large."""
    if look.element == "text":
        return in_words(item.label) or item.key
    label = item.label if isinstance(item.label, str) else ""
    return label if label.lower() not in name_item(item).lower() else ""


async def make_chips(query: Query, space: Space) -> tuple[Asked | None, list[Chip]]:
    """Return the part whose words stand in the text field, or None, and the chips of the other parts."""
    words = next((part for part in query.parts if part.form == "words"), None)
    chips = []
    for place, part in enumerate(query.parts):
        if part is words or part.form == "file":
            continue
        look, title, value = None, part.name, str(part.value)
        match part.form:
            case "item":
                item = (await space.items([part.value]))[0]
                look, title = await find_look(space, part.value, item, part.modality), name_item(item)
                value = f"{part.modality}:{part.value}"
            case "vector":
                value = write_vector(part.modality, part.value, part.name)
            case _:
                title = value
        field = "text" if part.form == "words" else part.form
        chips.append(Chip(place, part.modality, title, field, value, abs(part.weight), part.weight < 0, look))
    return words, chips


def say_found(found: Found, query: Query) -> str:
    """Return the sentence of the status line."""
    shown = len(found.hits)
    if not shown:
        return f"Nothing found among {found.candidates:,} samples with {query.of}."
    noun = "result" if shown == 1 else "results"
    line = f"{shown:,} {noun} of {found.candidates:,} with {query.of}, best first"
    if query.threshold is not None:
        above = sum(hit.score >= query.threshold for hit in found.hits)
        line += f"; {above} of {shown} above {write_score(query.threshold)}"
    if found.correction:
        line += f"; corrected for hubs by {found.correction}"
    return line + "."


def write_score(value: float) -> str:
    """Return a score with three decimals, a large one with two."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.2f}"


def write_seconds(seconds: float) -> str:
    """Return a time as a user reads it: 12 ms, 1.3 s."""
    return f"{1000 * seconds:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"
