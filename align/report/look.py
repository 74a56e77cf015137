"""Some samples of a set as a page: pictures, sounds, clouds and captions side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from align.data.labels import in_words
from align.data.meta import read_meta
from align.data.shards import Shards
from align.media import MEDIA, Media
from align.page.blocks import Chapter, Coverage
from align.page.cards import SCRIPTS, Card, Cards
from align.page.shell import Page, write_page


def write_look(
    path: str | Path,
    shards: Shards,
    positions: Iterable[int],
    *,
    title: str = "Shards",
    facts: Mapping[str, str] | None = None,
    up: str = "z",
    media: Media = MEDIA,
) -> Path:
    """Write the page and return its path.

    Args:
        positions: of the samples to show.
        facts: names and values under the title.
        up: the axis of point clouds that stands upright, "y" or "z".
        media: that make the faces.
    """
    cards = Cards(up=up, media=media)
    shown = []
    for position in positions:
        sample, _ = shards.read(position)  # its bad members are left out here and counted by `align shards check`
        label = in_words(read_meta(sample, shards.members)[0].label, "=")
        shown.append(Card(sample["__key__"], str(sample["__url__"]), cards.parts(sample), label=label))
    chapters = [
        Chapter("samples", "Samples", f"{len(shown)} of {len(shards):,}.", [cards.group(shown)]),
        coverage(shards.modalities, len(shards)),
    ]
    return write_page(path, Page(title, SCRIPTS, chapters, facts=facts or {}, data=cards.data()))


def coverage(modalities: Mapping[str, int], samples: int, more: str = "") -> Chapter:
    """Return the numbers of samples that have a row of each modality. more: added to the line below the title."""
    about = f"How many samples have a row of each modality.{more}"
    return Chapter("coverage", "Coverage", about, [Coverage(modalities, samples)])
