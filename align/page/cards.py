"""Samples of a page as cards: each with the faces of some of its members, in groups that the page's script draws."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, final

from align.data.names import row_name
from align.media import MEDIA, Media
from align.media.medium import Face
from align.page.faces import face_json, face_of, size
from align.values import Sample

SCRIPTS = ("cloud.js", "sound.js", "faces.js", "cards.js")
HEAD = 48  # bytes of a member that cannot be shown


class Part(NamedTuple):
    """One member. label: words under its face, or in its place where there is none."""

    name: str
    face: Face | None
    label: str = ""


class Card(NamedTuple):
    """A sample, or a shard where ``key`` is empty. detail: a sentence about it."""

    key: str
    shard: str
    parts: Sequence[Part] = ()
    detail: str = ""
    label: str = ""


class Group(NamedTuple):
    """The place on the page of a group of cards, by its number. title: words above it."""

    number: int
    title: str = ""


@final
class Cards:
    """All cards of a page, in groups.

    Args:
        up: the axis of point clouds that stands upright, "y" or "z".
        max_bytes: of all faces together. Members after that have no face.
        media: that make the faces.
    """

    def __init__(self, *, up: str = "z", max_bytes: int = 6_000_000, media: Media = MEDIA):
        self.up, self.max_bytes, self.media = up, max_bytes, media
        self.size = 0
        self.groups: list[list[Card]] = []

    def group(self, cards: Iterable[Card], title: str = "") -> Group:
        """Add a group of cards and return its place."""
        self.groups.append(list(cards))
        return Group(len(self.groups) - 1, title)

    def part(self, name: str, data: bytes, label: str = "", *, show: bool = True) -> Part:
        """Return a member with its face, or with its first bytes where it has no face or ``show`` is False."""
        face = face_of(name, data, self.media) if show and self.size < self.max_bytes else None
        if face is None:
            head = data[:HEAD].decode("ascii", "replace")
            plain = "".join(c if c.isprintable() and c != "\ufffd" else "·" for c in head)
            return Part(name, None, f"{len(data):,} bytes" + (f": {plain}" if plain else ""))
        self.size += size(face)
        return Part(name, face, label)

    def parts(self, sample: Sample) -> list[Part]:
        """Return all members of a sample that have a face."""
        names = [name for name in sample if not name.startswith("__")]
        found = [self.part(name, sample[name]) for name in sorted(names, key=_order)]
        return [part for part in found if part.face is not None]

    def data(self) -> dict[str, Any]:
        """Return the cards as the JSON block of the page's script, by its id."""
        groups = [[_json(card) for card in cards] for cards in self.groups]
        return {"cards-data": {"up": self.up, "groups": groups}}


def _order(name: str) -> tuple[bool, str]:
    row = row_name(name)
    return (row is None or row.negative, name)


def _json(card: Card) -> dict[str, object]:
    parts = [[part.name, face_json(part.face) if part.face else None, part.label] for part in card.parts]
    shard = card.shard.rpartition("/")[2]
    return {"key": card.key, "shard": shard, "faces": parts, "detail": card.detail, "label": card.label}
