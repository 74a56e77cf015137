"""Class names beside a file: how well each fits it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from align.search.parts import Part
from align.serve.page.query import Asked
from align.serve.page.space import Space

SHOWN = 12


class ClassBar(NamedTuple):
    """A class name. width: of its bar, in hundredths."""

    name: str
    text: str
    width: float


class Guess(NamedTuple):
    """The class names for one part, best first. are_shares: they are probabilities, else cosines."""

    title: str
    bars: Sequence[ClassBar]
    are_shares: bool


async def guess_class(asked: Asked, classes: Sequence[str], part: Part, space: Space) -> Guess:
    """Return the bars of class names for one part."""
    found = await space.classify(classes, part.modality, part.value)
    shares = all(value >= 0 for _, value in found) and abs(sum(value for _, value in found) - 1) < 1e-3
    most = max([1e-9, *(abs(value) for _, value in found)]) if not shares else 1.0
    bars = [
        ClassBar(name, f"{value:.1%}" if shares else f"{value:.3f}", 100 * max(0.0, value) / most)
        for name, value in found[:SHOWN]
    ]
    title = asked.name if asked.form == "vector" else f"the {asked.modality}"
    return Guess(title, bars, shares)
