"""Some samples of a set as a page: pictures, sounds, clouds and captions side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from align.data.labels import in_words
from align.data.meta import read_meta
from align.data.shards import Shards
from align.media import MEDIA, Media
from align.page.cards import SCRIPTS, Card, Cards, coverage
from align.page.shell import write_page
from align.report.protocol import summary


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
    """Write the page and return its path. positions: of the samples to show; up: of point clouds, "y" or "z"; media:
    that make the faces."""
    cards = Cards(up=up, media=media)
    shown = []
    for position in positions:
        sample, _ = shards.read(position)  # what is bad in it is counted by whoever looks for that
        label = in_words(read_meta(sample, shards.members)[0].label, "=")
        shown.append(Card(sample["__key__"], str(sample["__url__"]), cards.parts(sample), label=label))
    return write_page(
        path,
        title=title,
        scripts=SCRIPTS,
        summary=summary(facts or {}),
        sections=[
            ("samples", "Samples", f"{len(shown)} of {len(shards):,}.", cards.group(shown)),
            coverage(shards.modalities, len(shards)),
        ],
        data=cards.data(),
    )
