"""The findings of a check of shards as a page: each finding with samples to see, hear and turn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from align.curation.check import Diagnosis, Example, Place
from align.curation.check import Finding as Found
from align.data.shards import Shards
from align.page.blocks import Balance, Chapter, Finding, Reason, Reasons, Sentence
from align.page.cards import SCRIPTS, Card, Cards, Part
from align.page.shell import Page, write_page
from align.report.look import coverage

TITLES = {"error": "Errors", "warning": "Warnings", "note": "Notes"}
ABOUT = {
    "error": "Data that cannot be used, or must not be. They count against the budget.",
    "warning": "Data that can be read, but are hardly meant so.",
    "note": "Facts that may well be right, and are good to know.",
}
CANNOT_BE_SHOWN = ("empty", "truncated", "checksum", "unreadable", "too-large", "corrupt", "non-finite", "range")


def write_diagnosis(
    path: str | Path,
    found: Diagnosis,
    *,
    title: str = "Shards checked",
    facts: Mapping[str, str] | None = None,
    up: str = "z",
) -> Path:
    """Write the page and return its path.

    Args:
        facts: names and values under the title.
        up: the axis of point clouds that stands upright, "y" or "z".
    """
    cards = Cards(up=up, media=found.media)
    first = Reasons([_reason(finding) for finding in found.findings])
    nothing = Sentence("Nothing: every member could be read, and nothing stands out.")
    chapters = [Chapter("findings", "Findings", _verdict(found), [first if found.findings else nothing])]
    for severity, heading in TITLES.items():
        some = [finding for finding in found.findings if finding.severity == severity]
        if some:
            blocks = [_finding(finding, found, cards) for finding in some]
            chapters.append(Chapter(severity, heading, ABOUT[severity], blocks))
    sounds = ", ".join(f"{n:,} at {rate} Hz" for rate, n in found.rates.items())
    chapters.append(coverage(found.modalities, found.samples, f" Sounds: {sounds}." if sounds else ""))
    if found.labels:
        chapters.append(Chapter("labels", "Labels", "How many samples each class has.", [Balance(found.labels)]))
    return write_page(path, Page(title, SCRIPTS, chapters, facts=facts or {}, data=cards.data()))


def _verdict(found: Diagnosis) -> str:
    room = f"the budget of {found.max_bad:g} allows {found.allowed}"
    errors = "1 error" if found.errors == 1 else f"{found.errors:,} errors"
    return f"{errors} in {found.samples:,} samples; {room}."


def _reason(finding: Found) -> Reason:
    anchor = "of-" + finding.reason.replace("/", "-")
    return Reason(finding.severity, finding.reason, anchor, finding.count, finding.meaning)


def _finding(finding: Found, found: Diagnosis, cards: Cards) -> Finding:
    shown = [_card(example, finding.reason, found, cards) for example in finding.examples]
    width = len(shown) * (2 if any(len(card.parts) > 1 for card in shown) else 1)
    return Finding(_reason(finding), cards.group(shown), len(shown), min(width, 5))


def _card(example: Example, reason: str, found: Diagnosis, cards: Cards) -> Card:
    place, twin = example.place, example.twin
    show = reason.partition("/")[2] not in CANNOT_BE_SHOWN
    parts: list[Part] = []
    if found.source is not None and place.position >= 0 and not reason.startswith("json/"):  # its detail quotes it
        parts += _parts(place, found.source, cards, show=show, few=twin is not None)
    other = found.other if reason.startswith("leak/") else found.source
    if twin is not None and other is not None and twin.position >= 0:
        parts += [part._replace(name=f"{twin.key}.{part.name}") for part in _parts(twin, other, cards, few=True)]
    return Card(place.key, place.shard, parts, example.detail)


def _parts(place: Place, shards: Shards, cards: Cards, *, few: bool, show: bool = True) -> list[Part]:
    """Return the member that a finding is about, or else all members that have a face. few: at most two of these."""
    sample, _ = shards.read(place.position)
    if place.member in sample and place.member != "json":
        return [cards.part(place.member, sample[place.member], show=show)]
    if place.member not in ("", "json") and ":" not in place.member:  # a pickle, or bytes that are not the index's
        return [Part(place.member, None, "not opened")]
    return cards.parts(sample)[: 2 if few else None]
