"""Bad samples and members: counts by reason, and a budget that stops a run with too many of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

EMPTY = "sample/empty"
"""A position without a row of a configured modality. Counted, but no fault: shards may have holes."""

BLANK = "blank"
"""Second half of the reason (``text/blank``) for a caption without a word in a member that others named: a hole."""

ALONE = "alone"
"""Second half of the reason (``region/alone``) for a part whose whole, such as its picture, has no row: a hole."""

UNSEEN = "unseen"
"""Second half of the reason (``region/unseen``) for a part outside the augmented crop of its whole: a hole."""

NOTED = frozenset({"image/low-range", "image/own-range", "points/colour-missing", "points/dropped"})
"""Reasons of members that are written all the same."""

AGAIN = "pipeline/began-again"
"""A pipeline that ran out and began again. Counted, but no fault: the user states the length of an epoch."""

FAILED = "reader/failed"
"""An error that ends reading on one rank, on its way to all others; its text is the key."""

ASKED = "reader/stopped"
"""A stop that one rank was asked for while it waited for data, on its way to all others."""


class Bad(NamedTuple):
    """One member or sample that could not be used: reason, shard, key, member and position."""

    reason: str
    shard: str = ""
    key: str = ""
    member: str = ""
    position: int = -1

    @property
    def where(self) -> str:
        """Shard, key and member as text."""
        name = f"{self.key}.{self.member}" if self.member else self.key
        return f"{self.shard}: {name}" if self.shard else name


class Lost(NamedTuple):
    """Samples or members that a shard lacked before the first read. They have no position, and mostly no name."""

    shard: str
    reason: str
    n: int


class TooManyBad(Exception):
    """More bad samples than the budget allows. The message holds the table, the exit code is 3."""

    exit_code = 3

    def __init__(self, message: str, counts: Mapping[str, int] | None = None):
        super().__init__(message)
        self.counts = dict(counts or {})


class Budget:
    """At most max(10, max_bad · seen) bad samples at any time and max(1, max_bad · total) in a whole epoch.

    A sample with several bad members is one bad sample. ``counts`` has every reason.

    Args:
        lost: samples and members that were missing before the first read. They count in each epoch.
        state: the ``state`` of a run to go on with.
        whole: the message's words for all samples.
        remedy: words that the message adds.
        total: the samples of a single pass, such as an evaluation. Their share is allowed from the beginning, since a
            set may have its bad samples in one place.
        tolerated: positions whose faults were allowed before. They are in ``counts`` and do not count as bad samples.
    """

    def __init__(
        self,
        max_bad: float,
        *,
        lost: Iterable[Lost] = (),
        state: Mapping[str, Any] | None = None,
        whole: str = "in this epoch",
        remedy: str = "",
        total: int = 0,
        tolerated: Collection[int] = (),
    ):
        self.max_bad, self.lost, self.whole, self.remedy, self.total = max_bad, 0, whole, remedy, total
        self.tolerated = frozenset(tolerated)
        self.counts: dict[str, int] = {}
        self.first: dict[str, str] = {}
        for shard, reason, n in lost:
            self.lost += n
            self.counts[reason] = self.counts.get(reason, 0) + n
            self.first.setdefault(reason, shard)
        self.seen = self.bad = 0
        self.epoch_seen = self.epoch_bad = 0
        if state:
            self.counts, self.first = dict(state["counts"]), dict(state["first"])
            self.seen, self.bad, self.epoch_seen, self.epoch_bad = state["samples"]

    def state(self) -> dict[str, Any]:
        """Return the state that a resumed run begins with, for JSON. A stop does not give the budget back."""
        samples = [self.seen, self.bad, self.epoch_seen, self.epoch_bad]
        return {"samples": samples, "counts": dict(self.counts), "first": dict(self.first)}

    def add(self, found: Iterable[Bad], seen: int) -> None:
        """Count the bad of ``seen`` positions. Raises TooManyBad."""
        found = list(found)
        for bad in found:
            self.counts[bad.reason] = self.counts.get(bad.reason, 0) + 1
            self.first.setdefault(bad.reason, bad.where)
        n = count_bad_samples(bad for bad in found if bad.position not in self.tolerated)
        self.seen, self.bad = self.seen + seen, self.bad + n
        self.epoch_seen, self.epoch_bad = self.epoch_seen + seen, self.epoch_bad + n
        self._check(self.bad, max(10, self.max_bad * max(self.seen, self.total)), self.seen, "so far")

    def end_epoch(self) -> None:
        """End an epoch. Raises TooManyBad where it had more than max(1, max_bad · total) bad samples."""
        bad, seen = self.epoch_bad + self.lost, self.epoch_seen
        self.epoch_seen = self.epoch_bad = 0
        self._check(bad, max(1, self.max_bad * seen), seen, self.whole)

    def _check(self, bad: int, allowed: float, seen: int, when: str) -> None:
        if self.max_bad >= 1 or bad <= allowed:
            return
        text = f"{bad} of {seen} samples {when} are bad, more than max_bad={self.max_bad:g} allows ({int(allowed)})"
        faults = {reason: n for reason, n in self.counts.items() if is_fault(reason)}
        raise TooManyBad(f"{text}{self.remedy}:\n{table(faults, self.first)}", self.counts)


def is_hole(reason: str) -> bool:
    """Return True for a reason of absence: a sample without a row, a caption without a word (``text/blank``), a part
    without its whole."""
    return reason == EMPTY or reason.rpartition("/")[2] in (BLANK, ALONE, UNSEEN)


def is_fault(reason: str) -> bool:
    """Return True for a reason that counts against the budget.

    No faults are a hole, a pipeline that began again, and a member that is written all the same (``NOTED``), that no
    tower reads (``ignored/…``) or whose name no shard may hold (``member/…``).
    """
    if is_hole(reason) or reason in NOTED or reason == AGAIN:
        return False
    return not reason.startswith(("ignored/", "member/"))


def count_bad_samples(found: Iterable[Bad]) -> int:
    """Count the samples (positions) with at least one fault among these."""
    return len({bad.position for bad in found if is_fault(bad.reason)})


def table(counts: Mapping[str, int], first: Mapping[str, str] | None = None) -> str:
    """Return lines of ``reason  count  where it was seen first``, the most frequent first."""
    rows = sorted(Counter(counts).items(), key=lambda item: (-item[1], item[0]))
    width = max((len(reason) for reason, _ in rows), default=0)
    return "\n".join(f"  {reason:<{width}}  {n:>7}  {(first or {}).get(reason, '')}".rstrip() for reason, n in rows)
