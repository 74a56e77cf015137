"""Some samples of a set as a page: pictures, sounds, clouds and captions side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from align.data.meta import read_meta
from align.data.shards import Shards
from align.report.cards import SCRIPTS, Card, Cards, facts_table, read
from align.report.markup import name
from align.report.protocol import summary
from align.report.shell import write_page


def write_look(
    path: str | Path,
    shards: Shards,
    positions: Iterable[int],
    *,
    title: str = "Shards",
    facts: Mapping[str, str] | None = None,
    up: str = "z",
) -> Path:
    """Write the page and return its path. positions: of the samples to show; up: of point clouds, "y" or "z"."""
    cards = Cards(up=up)
    shown = []
    for position in positions:
        sample = read(shards, position)
        label = words(read_meta(sample, shards.members)[0].label)
        shown.append(Card(sample["__key__"], str(sample["__url__"]), cards.parts(sample), label=label))
    coverage = [(name(m), f"{n:,}", f"{n / max(1, len(shards)):.1%}") for m, n in shards.modalities.items()]
    return write_page(
        path,
        title=title,
        scripts=SCRIPTS,
        summary=summary(facts or {}),
        sections=[
            ("samples", "Samples", f"{len(shown)} of {len(shards):,}.", cards.group(shown)),
            (
                "coverage",
                "Coverage",
                "How many samples have a row of each modality.",
                facts_table(coverage, ["Modality", "Samples", "Share"]),
            ),
        ],
        data=cards.data(),
    )


def words(label: Any) -> str:
    """A label in words."""
    if isinstance(label, dict):
        return ", ".join(f"{k}={v}" for k, v in label.items())
    return "" if label is None else str(label)
