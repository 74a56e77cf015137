"""The look of an item's files on the page: which element shows each, and the addresses that the element loads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from starlette.concurrency import run_in_threadpool

from align.media.choice import converter_of, medium_of
from align.media.video import VIDEO
from align.page.faces import face_json
from align.page.still import draw_cloud, draw_lines, draw_wave
from align.search.item import Item
from align.serve.page.space import Place, Space

LINES = 5  # captions on a card


class Look(NamedTuple):
    """A file on the page.

    element: as of ``Face``, "video" for a picture that moves, or "nothing". source: the address that a picture or a
    player loads. still, data: addresses of its drawing and of the face that a script draws. original: the address of
    the stored bytes. up: the axis of a cloud that stands upright.
    """

    modality: str
    element: str
    source: str = ""
    still: str = ""
    data: str = ""
    original: str = ""
    lines: Sequence[str] = ()
    up: str = "z"


async def find_look(space: Space, number: int, item: Item, modality: str) -> Look:
    """Return the look of an item's first row of a modality."""
    place = next((place for place in await space.members(item) if place.modality == modality), None)
    if place is not None:
        return await make_look(space, number, item, place)
    if item.captions and modality in space.texts:
        return Look(modality, "text", lines=tuple(item.captions)[:LINES])
    return Look(modality, "nothing")


async def make_look(space: Space, number: int, item: Item, place: Place) -> Look:
    """Return the look of one file."""
    modality, row, suffix = place
    medium = medium_of(space.media, suffix, modality) or converter_of(space.media, suffix, modality)
    element = medium.element if medium is not None else None
    if element is None:
        face = await space.face(number, modality, row)
        element = face.element if face is not None else "nothing"
    original = space.link(number, modality, row, shown=False)
    if element == "text":
        lines = tuple(item.captions)[row : row + 1] if row else tuple(item.captions)
        return Look(modality, "text", original=original, lines=lines[:LINES])
    if element == "picture" and suffix in VIDEO.suffixes:
        element = "video"
    look = f"look/{number}/{modality}/{row}"
    source = space.link(number, modality, row, shown=True)
    return Look(modality, element, source, f"{look}?as=still", f"{look}?as=data", original, up=space.up(modality))


async def draw_still(space: Space, number: int, modality: str, row: int) -> tuple[bytes, str] | None:
    """Return a file's drawing and its type, or None where it has none."""
    face = await space.face(number, modality, row)
    if face is None:
        return None
    match face.element:
        case "cloud":
            return await run_in_threadpool(draw_cloud, face, up=space.up(modality)), "image/png"
        case "sound":
            return draw_wave(face), "image/svg+xml"
        case "drawing":
            return draw_lines(face), "image/svg+xml"
        case "picture":
            return face.data, face.more["type"]
        case _:
            return None


async def write_face(space: Space, number: int, modality: str, row: int) -> bytes | None:
    """Return a file's face as JSON for the page's script, or None where it has none."""
    face = await space.face(number, modality, row)
    return None if face is None else json.dumps(face_json(face)).encode()
