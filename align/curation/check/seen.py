"""Results of a pass over samples: findings, and values that are judged only after all samples are seen."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from typing import final

from align.curation.check.findings import Findings, Place
from align.curation.check.prints import Prints
from align.media import MEDIA, Media
from align.media.medium import Oddity


@final
class Odd:
    """A property whose rare values are odd, such as a sample rate: the count of each value, and a few places."""

    def __init__(self, most: int):
        self.most = most
        self.counts: Counter[str] = Counter()
        self.places: dict[str, list[Place]] = {}

    def add(self, value: str, place: Place) -> None:
        self.counts[value] += 1
        places = self.places.setdefault(value, [])
        if len(places) < self.most:
            places.append(place)

    def merge(self, other: Odd) -> None:
        self.counts.update(other.counts)
        for value, places in other.places.items():
            here = self.places.setdefault(value, [])
            here += places[: self.most - len(here)]

    def report(self, oddity: Oddity, findings: Findings, usual: str | None = None) -> None:
        """Add cases of ``oddity`` for every value but the usual one (default: the most frequent)."""
        if not self.counts:
            return
        words = oddity.expected if usual else oddity.words
        usual = usual or min(self.counts, key=lambda value: (-self.counts[value], value))
        for value, n in sorted(self.counts.items()):
            if value == usual:
                continue
            detail = words.format(value, usual)
            first, *rest = self.places[value]
            findings.add(oddity.reason, first, detail, n=n - len(rest))
            for place in rest:
                findings.add(oddity.reason, place, detail)


@final
class Captions:
    """Hashes and positions of captions, 16 bytes for each, to find those that repeat."""

    def __init__(self) -> None:
        self.hashes, self.positions = array("Q"), array("q")

    def add(self, text: str, position: int) -> None:
        plain = " ".join(text.casefold().split())
        self.hashes.append(int.from_bytes(hashlib.blake2b(plain.encode(), digest_size=8).digest(), "little"))
        self.positions.append(position)

    def merge(self, other: Captions) -> None:
        self.hashes.extend(other.hashes)
        self.positions.extend(other.positions)


@final
class Seen:
    """Results for one stretch of positions. Stretches are merged in their order."""

    def __init__(self, most: int = 12, media: Media = MEDIA):
        self.findings = Findings(most, media)
        self.media = media
        self.odd: dict[str, Odd] = {}  # property -> its values
        self.captions: dict[str, Captions] = {}
        self.prints: dict[str, Prints] = {medium.name: Prints() for medium in media}
        self.labels: dict[str, Counter[str]] = {}  # attribute -> value -> samples
        self.kinds: dict[str, dict[str, Place]] = {}  # attribute -> "number" or "name" -> first place
        self.first: dict[tuple[str, str], Place] = {}  # (attribute, value) -> first place
        self.labelled = 0
        self.unlabelled: list[Place] = []
        self.groups: dict[int, int] = {}  # group -> the first position that has it
        self.samples = 0
        self.most = most

    def merge(self, other: Seen) -> None:
        """Add the stretch that follows this one. The time grows with the added stretch alone."""
        self.findings.merge(other.findings)
        for name, odd in other.odd.items():
            self.odd.setdefault(name, Odd(self.most)).merge(odd)
        for modality, captions in other.captions.items():
            self.captions.setdefault(modality, Captions()).merge(captions)
        for kind, prints in other.prints.items():
            self.prints[kind].extend(prints)
        for attribute, counts in other.labels.items():
            self.labels.setdefault(attribute, Counter()).update(counts)
        for attribute, kinds in other.kinds.items():
            self.kinds[attribute] = {**kinds, **self.kinds.get(attribute, {})}
        for value, place in other.first.items():
            self.first.setdefault(value, place)
        self.labelled += other.labelled
        self.unlabelled += other.unlabelled[: self.most - len(self.unlabelled)]
        for group, position in other.groups.items():
            self.groups.setdefault(group, position)
        self.samples += other.samples
