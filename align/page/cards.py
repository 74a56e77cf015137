"""Groups of samples as cards: what a check found, or simply what is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, final

from align.data.names import row_name
from align.media import MEDIA, Media
from align.media.medium import Face
from align.page.faces import face_json, face_of, size
from align.page.markup import Markup, block, name, table, tag
from align.page.shell import Section
from align.page.svg import bar
from align.values import Sample

SCRIPTS = ("cloud.js", "sound.js", "faces.js", "cards.js")
HEAD = 48  # bytes of a member that cannot be shown


class Part(NamedTuple):
    """One member. label: what stands under its face, or in its place where there is none."""

    name: str
    face: Face | None
    label: str = ""


class Card(NamedTuple):
    """A sample, or a shard where ``key`` is empty. detail: what is said about it."""

    key: str
    shard: str
    parts: Sequence[Part] = ()
    detail: str = ""
    label: str = ""


@final
class Cards:
    """The cards of a page, in groups; the page's script draws them.

    Args:
        up: the axis of point clouds that stands upright, "y" or "z".
        max_bytes: of all faces together; what comes later is shown without.
        media: that make the faces.
    """

    def __init__(self, *, up: str = "z", max_bytes: int = 6_000_000, media: Media = MEDIA):
        self.up, self.max_bytes, self.media = up, max_bytes, media
        self.size = 0
        self._groups: list[list[Card]] = []

    def group(self, cards: Iterable[Card]) -> Markup:
        """The place where these cards will be drawn."""
        self._groups.append(list(cards))
        return tag("div", class_="cards", data_group=len(self._groups) - 1)

    def part(self, name: str, data: bytes, label: str = "", *, show: bool = True) -> Part:
        """A member with its face; its first bytes where it has none or ``show`` is False."""
        face = face_of(name, data, self.media) if show and self.size < self.max_bytes else None
        if face is None:
            head = data[:HEAD].decode("ascii", "replace")
            plain = "".join(c if c.isprintable() and c != "\ufffd" else "·" for c in head)
            return Part(name, None, f"{len(data):,} bytes" + (f": {plain}" if plain else ""))
        self.size += size(face)
        return Part(name, face, label)

    def parts(self, sample: Sample) -> list[Part]:
        """All members of a sample that have a face."""
        names = [name for name in sample if not name.startswith("__")]
        found = [self.part(name, sample[name]) for name in sorted(names, key=_order)]
        return [part for part in found if part.face is not None]

    def data(self) -> Markup:
        """The block that the script reads."""
        groups = [[_json(card) for card in cards] for cards in self._groups]
        return block({"up": self.up, "groups": groups}, id="cards-data")


def coverage(modalities: Mapping[str, int], samples: int, more: str = "") -> Section:
    """How many samples have a row of each modality, as a section of the page. more: said beside it."""
    rows = [(name(m), f"{n:,}", f"{n / max(1, samples):.1%}") for m, n in modalities.items()]
    about = f"How many samples have a row of each modality.{more}"
    return "coverage", "Coverage", about, table(rows, ["Modality", "Samples", "Share"])


def balance(labels: Mapping[str, Mapping[str, int]], most: int = 24) -> Markup:
    """For each attribute the counts of its classes as bars, the most frequent first."""
    out = []
    for attribute, counts in labels.items():
        largest = max(counts.values(), default=1)
        rows = [
            tag(
                "tr",
                tag("th", name, scope="row"),
                tag("td", bar(n / largest)),
                tag("td", f"{n:,}", class_="count"),
            )
            for name, n in list(counts.items())[:most]
        ]
        left = f", the {most} most frequent" if len(counts) > most else ""
        about = tag("figcaption", tag("b", attribute), tag("span", f"{len(counts)} classes{left}"))
        out.append(tag("figure", about, tag("table", tag("tbody", *rows), class_="balance"), class_="chart"))
    return tag("div", *out, class_="charts")


def _order(name: str) -> tuple[bool, str]:
    row = row_name(name)
    return (row is None or row.negative, name)


def _json(card: Card) -> dict[str, object]:
    parts = [[part.name, face_json(part.face) if part.face else None, part.label] for part in card.parts]
    shard = card.shard.rpartition("/")[2]
    return {"key": card.key, "shard": shard, "faces": parts, "detail": card.detail, "label": card.label}
