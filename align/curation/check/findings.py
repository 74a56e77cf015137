"""Findings of a check: a reason, its number of cases, and the first places where it was seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, final

from align.curation.check.reasons import SEVERITIES, meaning, severity
from align.media import MEDIA, Media
from align.media.medium import Severity


class Place(NamedTuple):
    """A shard, a sample in it and a member of the sample, "" where there is none. position: in the set, or -1."""

    shard: str
    key: str = ""
    member: str = ""
    position: int = -1


class Example(NamedTuple):
    """One case of a finding. twin: place of the sample that it equals or resembles."""

    place: Place
    detail: str = ""
    twin: Place | None = None

    def json(self) -> dict[str, Any]:
        out: dict[str, Any] = self.place._asdict()
        del out["position"]
        if self.detail:
            out["detail"] = self.detail
        if self.twin is not None:
            out["twin"] = [self.twin.shard, self.twin.key, self.twin.member]
        return out


@dataclass
class Finding:
    """All cases of one reason. ``examples`` has the first of them."""

    reason: str
    count: int = 0
    examples: list[Example] = field(default_factory=list)
    media: Media = MEDIA

    @property
    def severity(self) -> Severity:
        return severity(self.reason, self.media)

    @property
    def meaning(self) -> str:
        return meaning(self.reason, self.media)

    def json(self) -> dict[str, Any]:
        return {
            "reason": self.reason,
            "severity": self.severity,
            "count": self.count,
            "meaning": self.meaning,
            "examples": [example.json() for example in self.examples],
        }


@final
class Findings:
    """Findings by reason, and the positions of the samples that have an error. most: examples kept of each reason.

    media: whose reasons have a severity and a meaning.
    """

    def __init__(self, most: int = 12, media: Media = MEDIA):
        self.most, self.media = most, media
        self.bad: set[int] = set()
        self.elsewhere = 0  # errors without a position: of a shard, or of a sample that was lost with a part of the tar
        self._found: dict[str, Finding] = {}

    def add(self, reason: str, place: Place, detail: str = "", twin: Place | None = None, n: int = 1) -> None:
        """Count a case, or ``n`` cases that share an example."""
        finding = self._found.setdefault(reason, Finding(reason, media=self.media))
        finding.count += n
        if len(finding.examples) < self.most:
            finding.examples.append(Example(place, detail, twin))
        if finding.severity == "error":
            if place.position >= 0:
                self.bad.add(place.position)
            else:
                self.elsewhere += n

    def merge(self, other: Findings) -> None:
        """Add the findings of a later stretch of the same set."""
        for reason, theirs in other._found.items():
            finding = self._found.setdefault(reason, Finding(reason, media=self.media))
            finding.count += theirs.count
            finding.examples += theirs.examples[: self.most - len(finding.examples)]
        self.bad |= other.bad
        self.elsewhere += other.elsewhere

    @property
    def errors(self) -> int:
        """The number of samples with an error, plus errors of whole shards."""
        return len(self.bad) + self.elsewhere

    def rank(self) -> list[Finding]:
        """Return errors, warnings, then notes, each with the most frequent first."""
        return sorted(self._found.values(), key=lambda f: (SEVERITIES.index(f.severity), -f.count, f.reason))
