"""Class names beside a file: how well each fits it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from align.serve.page.query import Asked
from align.serve.page.space import Space
from align.serve.page.trouble import Trouble
from align.serve.page.view import name_item

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


async def guess_class(part: Asked, classes: Sequence[str], space: Space) -> Guess:
    """Return the bars of class names for one part."""
    vector = torch.tensor(part.value) if part.form == "vector" else await read_item(part, space)
    values, shares = await space.classify(classes, part.modality, vector)
    most = 1.0 if shares else max([1e-9, *map(abs, values.values())])
    bars = [
        ClassBar(name, f"{value:.1%}" if shares else f"{value:.3f}", 100 * max(0.0, value) / most)
        for name, value in list(values.items())[:SHOWN]
    ]
    title = part.name if part.form == "vector" else name_item((await space.items([part.value]))[0])
    return Guess(title, bars, shares)


async def read_item(part: Asked, space: Space) -> Tensor:
    """Return the embedding (D,) of an item's first file of a modality."""
    (item,) = await space.items([part.value])
    places = [place for place in await space.members(item) if place.modality == part.modality]
    if not places or part.modality in space.texts:
        raise Trouble(f"Item {part.value} has no file of {part.modality} to tell apart.", "classes")
    data = await space.content(part.value, part.modality, places[0].row)
    return await space.embed(part.modality, data, f"item.{places[0].suffix}")
