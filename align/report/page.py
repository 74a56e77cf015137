"""Scores, curves and a gallery -> one HTML file: the report of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from align.files import read_json
from align.page.faces import face_json
from align.page.markup import Markup, block, choice, icon, join, tag
from align.page.shell import write_page
from align.report import curves as lines
from align.report import scores as tables
from align.report.gallery import Gallery
from align.report.protocol import bad as bad_table
from align.report.protocol import notes as notes_block
from align.report.protocol import protocol as protocol_block
from align.report.protocol import summary as facts
from align.report.retrieval import matrix, modalities

SCRIPTS = ("choice.js", "chart.js", "cloud.js", "sound.js", "faces.js", "gallery.js")


def write_report(
    path: str | Path,
    *,
    title: str,
    scores: Mapping[str, float],
    protocol: Mapping[str, Any],
    curves: Path | None = None,
    gallery: Gallery | None = None,
    summary: Mapping[str, str] | None = None,
    bad: Mapping[str, int] | None = None,
) -> Path:
    """Write the page and return its path. What is not given is left out of it.

    Args:
        scores, protocol: as in results.json.
        curves: a run's metrics.csv.
        summary: short facts, such as the time and the device.
        bad: what training could not read, reason -> count; default: the bad.json beside `curves`. What evaluation could
            not read is in the protocol.

    Raises FileNotFoundError where `curves` is not there, ValueError where it has no column ``step``.
    """
    sections = _sections(scores, protocol, curves, gallery, _bad(bad, protocol, curves))
    model = str(protocol.get("model") or "")
    return write_page(
        path,
        title=title,
        scripts=SCRIPTS,
        version=str(protocol.get("version") or ""),
        model=tag("span", "model ", tag("code", model[:12], title=model)) if model else Markup(),
        summary=facts(summary or {}),
        headline=tables.headline(scores),
        sections=sections,
        data=_data(gallery),
    )


def _sections(
    scores: Mapping[str, float],
    protocol: Mapping[str, Any],
    curves: Path | None,
    gallery: Gallery | None,
    bad: Mapping[str, Mapping[str, Any]],
) -> list[tuple[str, str, str, Markup]]:
    """(anchor, title, one line about it, content) of what there is to show."""
    asked = {(q.of, q.to) for q in gallery.queries} if gallery else set()
    hit = str(protocol.get("hit rule") or "")
    ways = "From every modality to every other." + (f" Hit: {hit}." if hit else "")
    drawn = lines.charts(lines.read(curves)) if curves else Markup()
    zeroshot = tables.zeroshot(scores, protocol)
    found = [
        ("notes", "Notes", "Facts that change how the numbers are read.", notes_block(protocol)),
        ("zero-shot", "Zero-shot", "Classes told by their names alone. The mark on a bar is chance.", zeroshot),
        ("retrieval", "Retrieval", ways, matrix(scores, asked)),
        ("gallery", "Gallery", "Ask in one modality, see what comes nearest in another.", _gallery(gallery)),
        ("curves", "Curves", "Move over a chart to read it; click a name to hide its line.", drawn),
        ("bad", "Bad data", "What could not be read was left out and counted.", bad_table(bad)),
        ("protocol", "Protocol", "What made these numbers.", _details(scores, protocol)),
    ]
    return [section for section in found if section[3]]


def _details(scores: Mapping[str, float], protocol: Mapping[str, Any]) -> Markup:
    blocks = []
    if protocol:
        blocks.append(
            tag(
                "details",
                tag("summary", "Command, model, shards, classes, hit rule, tie rule"),
                protocol_block(protocol),
            )
        )
    if scores:
        blocks.append(
            tag(
                "details",
                tag("summary", f"All {len(scores)} scores, by their names in results.json"),
                tables.everything(scores),
            )
        )
    return join(blocks)


def _bad(
    training: Mapping[str, int] | None, protocol: Mapping[str, Any], curves: Path | None
) -> Mapping[str, Mapping[str, Any]]:
    """When -> reason -> count."""
    beside = curves.with_name("bad.json") if curves else None
    if training is None and beside and beside.is_file():
        training = read_json(beside)
    found = {"training": training, "evaluation": protocol.get("bad")}
    return {when: counts for when, counts in found.items() if isinstance(counts, Mapping)}


def _gallery(gallery: Gallery | None) -> Markup:
    """The controls, and an empty place that the script fills."""
    if gallery is None or not gallery.queries:
        return Markup()
    of, to = gallery.queries[0].of, gallery.queries[0].to
    choices = [
        choice(key, legend, [(m, m, icon(m)) for m in modalities(names)], chosen)
        for key, legend, names, chosen in (
            ("of", "Ask with", [q.of for q in gallery.queries], of),
            ("to", "Look among", [q.to for q in gallery.queries], to),
        )
    ]
    tally = tag("p", class_="tally", id="tally", aria_live="polite")
    none = tag("noscript", tag("p", "The gallery is drawn by this file's own script, which is switched off."))
    return join([tag("div", *choices, tally, class_="controls"), none, tag("div", id="rows", class_="rows")])


def _data(gallery: Gallery | None) -> Markup:
    if gallery is None or not gallery.queries:
        return Markup()
    items = [
        {"key": i.key, "caption": i.caption, "faces": {m: face_json(f) for m, f in i.faces.items()}}
        for i in gallery.items
    ]
    queries = [
        [q.item, q.of, q.to, [[a.item, round(a.score, 4), int(a.hit)] for a in q.answers]] for q in gallery.queries
    ]
    return block({"up": gallery.up, "items": items, "queries": queries}, id="gallery-data")
