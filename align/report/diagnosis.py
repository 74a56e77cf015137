"""What a check of shards found, as a page: each finding with samples to see, hear and turn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from align.curation.check import Diagnosis, Example, Finding, Place
from align.data.shards import Shards
from align.page.cards import SCRIPTS, Card, Cards, Part, balance, coverage
from align.page.markup import Markup, table, tag
from align.page.shell import Section, write_page
from align.report.protocol import summary

TITLES = {"error": "Errors", "warning": "Warnings", "note": "Notes"}
ABOUT = {
    "error": "What cannot be used, or must not be. These count against the budget.",
    "warning": "What can be read, but is hardly meant so.",
    "note": "What may well be right, and is good to know.",
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
    """Write the page and return its path. facts: shown under the title; up: of point clouds, "y" or "z"."""
    cards = Cards(up=up, media=found.media)
    sections: list[Section] = [("findings", "Findings", _verdict(found), _table(found.findings))]
    for severity, heading in TITLES.items():
        some = [finding for finding in found.findings if finding.severity == severity]
        if some:
            blocks = [_finding(finding, found, cards) for finding in some]
            sections.append((severity, heading, ABOUT[severity], tag("div", *blocks, class_="found")))
    sounds = ", ".join(f"{n:,} at {rate} Hz" for rate, n in found.rates.items())
    sections.append(coverage(found.modalities, found.samples, f" Sounds: {sounds}." if sounds else ""))
    if found.labels:
        sections.append(("labels", "Labels", "How many samples each class has.", balance(found.labels)))
    return write_page(
        path,
        title=title,
        scripts=SCRIPTS,
        summary=summary(facts or {}),
        sections=sections,
        data=cards.data(),
    )


def anchor(reason: str) -> str:
    """``image/truncated`` -> the name of its place on the page."""
    return "of-" + reason.replace("/", "-")


def _verdict(found: Diagnosis) -> str:
    room = f"the budget of {found.max_bad:g} allows {found.allowed}"
    errors = "1 error" if found.errors == 1 else f"{found.errors:,} errors"
    return f"{errors} in {found.samples:,} samples; {room}."


def _table(findings: list[Finding]) -> Markup:
    if not findings:
        return tag("p", "Nothing: every member could be read, and nothing stands out.", class_="fine")
    rows = [
        (
            tag("span", finding.severity, class_=f"pill {finding.severity}"),
            tag("a", tag("code", finding.reason), href=f"#{anchor(finding.reason)}"),
            tag("span", f"{finding.count:,}", class_="count"),
            finding.meaning,
        )
        for finding in findings
    ]
    return table(rows, ["", "Reason", "Count", "What it means"])


def _finding(finding: Finding, found: Diagnosis, cards: Cards) -> Markup:
    shown = [_card(example, finding.reason, found, cards) for example in finding.examples]
    left = finding.count - len(shown)
    more = tag("small", f"{finding.count:,}" + (f", the first {len(shown)} are shown" if left > 0 else ""))
    head = tag("h3", tag("code", finding.reason), more)
    about = tag("p", finding.meaning, class_="about") if finding.meaning else Markup()
    width = len(shown) * (2 if any(len(card.parts) > 1 for card in shown) else 1)
    return tag("div", head, about, cards.group(shown), class_=f"finding w{min(width, 5)}", id=anchor(finding.reason))


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
    """The member that it is about; or what else the sample has, of which ``few`` shows two."""
    sample, _ = shards.read(place.position)
    if place.member in sample and place.member != "json":
        return [cards.part(place.member, sample[place.member], show=show)]
    if place.member not in ("", "json") and ":" not in place.member:  # a pickle, or bytes that are not the index's
        return [Part(place.member, None, "not opened")]
    return cards.parts(sample)[: 2 if few else None]
