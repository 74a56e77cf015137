"""Scores, curves and a gallery -> one HTML file: the report of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import align
from align.media import MEDIA, Media
from align.page.blocks import AnyBlock, Chapter, Fold, Queries
from align.page.cards import Card, Cards
from align.page.chart_blocks import drawable, drawable_shares
from align.page.faces import face_json
from align.page.heat import by_number_of_parts
from align.page.plane import drawable_points
from align.page.section import (
    Bars,
    Block,
    Confusions,
    Curve,
    Histogram,
    Matrix,
    Pictures,
    Scatter,
    Section,
    Table,
    Tile,
)
from align.page.section import Gallery as Samples
from align.page.shell import Page, write_page
from align.report import curves as lines
from align.report.facts import bad_data, details, notes
from align.report.gallery import Gallery
from align.values import Sample

SCRIPTS = (
    *("choice.js", "legend.js", "chart.js", "confusions.js", "scroll.js"),
    *("cloud.js", "sound.js", "faces.js", "gallery.js", "cards.js"),
)
ANCHORS = ("top", "notes", "gallery", "rows", "tally", "gallery-data", "cards-data", "curves", "bad", "protocol")


def write_report(
    path: str | Path,
    *,
    title: str,
    scores: Mapping[str, float],
    protocol: Mapping[str, Any],
    sections: Sequence[Section] = (),
    curves: Path | None = None,
    gallery: Gallery | None = None,
    samples: Mapping[str, Sample] | None = None,
    summary: Mapping[str, str] | None = None,
    bad: Mapping[str, int] | None = None,
    media: Media = MEDIA,
    results: str = "results.json",
) -> Path:
    """Write the page and return its path. A part that is not given is left out of it.

    Args:
        scores, protocol: as in results.json.
        sections: as evaluators state them. At most 4 headline numbers of a section are shown, and 6 in all.
        curves: a run's metrics.csv.
        samples: key -> sample, for the Gallery blocks of `sections`. A key without a sample has its caption alone.
        summary: short facts, such as the time and the device.
        bad: counts of data that training could not read, by reason. Default: the bad.json beside `curves`. The counts
            of the evaluation are in the protocol.
        media: that make the faces of `samples`.
        results: the name of the file that has `scores` and `protocol`.

    Raises FileNotFoundError where `curves` is not there, ValueError where it has no column ``step``.
    """
    cards = Cards(up=gallery.up if gallery else "z", media=media)
    drawn = [
        Chapter(anchor, s.title, s.note, _blocks(s, samples or {}, cards))
        for s, anchor in zip(sections, _anchors([s.title for s in sections]), strict=True)
    ]
    chapters = [
        Chapter("notes", "Notes", "Facts that change how the numbers are read.", notes(protocol)),
        *drawn,
        Chapter("gallery", "Gallery", "Ask in one modality, see what comes nearest in another.", _queries(gallery)),
        Chapter(
            "curves",
            "Curves",
            "Move over a chart to read it; click a name to hide its line.",
            lines.charts(lines.read(curves)) if curves else [],
        ),
        Chapter("bad", "Bad data", "What could not be read was left out and counted.", bad_data(bad, protocol, curves)),
        Chapter("protocol", "Protocol", "What made these numbers.", details(scores, protocol, results)),
    ]
    page = Page(
        title=title,
        scripts=SCRIPTS,
        version=str(protocol.get("version") or align.__version__),
        model=str(protocol.get("model") or ""),
        facts=summary or {},
        tiles=_tiles(sections),
        chapters=[chapter for chapter in chapters if chapter.blocks],
        data=_data(gallery) | (cards.data() if cards.groups else {}),
        linked={(q.of, q.to) for q in gallery.queries} if gallery else set(),
    )
    return write_page(path, page)


def _anchors(titles: Sequence[str]) -> list[str]:
    """Return an anchor for each title. One that the page has already gets a number."""
    out: list[str] = []
    for title in titles:
        name = re.sub(r"[^\w-]+", "-", title.lower()) or "section"
        numbered = (name, *(f"{name}_{n}" for n in range(2, len(titles) + 2)))
        out.append(next(anchor for anchor in numbered if anchor not in ANCHORS and anchor not in out))
    return out


def _has_content(block: Block) -> bool:
    """Return False for a block that would be drawn as an empty frame."""
    match block:
        case Table():
            return bool(block.rows)
        case Bars():
            return bool(block.bars)
        case Matrix():
            return any(block.metrics.values())
        case Curve():
            return bool(drawable(block))
        case Confusions():
            return any(map(any, block.counts))
        case Histogram():
            return bool(drawable_shares(block))
        case Scatter():
            return bool(drawable_points(block))
        case Samples():
            return bool(block.keys)
        case Pictures():
            return bool(block.pictures)


def _tiles(sections: Sequence[Section]) -> list[Tile]:
    return [tile for section in sections for tile in section.tiles[:4]][:6]


def _blocks(section: Section, samples: Mapping[str, Sample], cards: Cards) -> list[AnyBlock]:
    """Return the blocks of a section that have content, and its details behind a line that opens them."""
    shown, more = (
        [_place_samples(block, samples, cards) for block in blocks if _has_content(block)]
        for blocks in (section.blocks, section.details)
    )
    return [*shown, Fold("Details", more)] if more else shown


def _place_samples(block: Any, samples: Mapping[str, Sample], cards: Cards) -> AnyBlock:
    """Return the block, and a place for cards instead of a Gallery."""
    if not isinstance(block, Samples):
        return block
    shown = (
        Card(key, "", cards.parts(samples[key]) if key in samples else (), block.captions.get(key, ""))
        for key in block.keys
    )
    return cards.group(shown, block.title)


def _queries(gallery: Gallery | None) -> list[AnyBlock]:
    """Return the controls of the gallery and its place, or nothing where there is no query."""
    if gallery is None or not gallery.queries:
        return []
    of, to = by_number_of_parts(q.of for q in gallery.queries), by_number_of_parts(q.to for q in gallery.queries)
    return [Queries(of, to, (gallery.queries[0].of, gallery.queries[0].to))]


def _data(gallery: Gallery | None) -> dict[str, Any]:
    """Return the JSON block of the gallery's script by its id, or nothing where there is no query."""
    if gallery is None or not gallery.queries:
        return {}
    items = [
        {"key": i.key, "caption": i.caption, "faces": {m: face_json(f) for m, f in i.faces.items()}}
        for i in gallery.items
    ]
    queries = [
        [q.item, q.of, q.to, [[a.item, round(a.score, 4), int(a.hit)] for a in q.answers]] for q in gallery.queries
    ]
    return {"gallery-data": {"up": gallery.up, "items": items, "queries": queries}}
