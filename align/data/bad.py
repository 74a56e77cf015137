"""What was bad: counted by reason, compared with a budget, and a stop when it is too much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

EMPTY = "sample/empty"
"""A position without a row of a configured modality. Counted, but no fault: shards may have holes."""

BLANK = "blank"
"""After its modality the reason of a caption without a word in a member that others named: a hole, counted."""

NOTED = frozenset({"image/low-range", "image/own-range", "points/colour-missing", "points/dropped"})
"""Said of members that are written all the same."""

AGAIN = "pipeline/began-again"
"""A pipeline that ran out and began again. Counted, but no fault: an epoch is as long as the user said."""

FAILED = "reader/failed"
"""An error that ends reading on one rank, on its way to all others; its text is the key."""


class Bad(NamedTuple):
    """One member or sample that could not be used: why, in which shard, under which key and name, at which position."""

    reason: str
    shard: str = ""
    key: str = ""
    member: str = ""
    position: int = -1

    @property
    def where(self) -> str:
        """Shard, key and member, for people."""
        name = f"{self.key}.{self.member}" if self.member else self.key
        return f"{self.shard}: {name}" if self.shard else name


class Lost(NamedTuple):
    """What a shard lacked before its first sample was read: it has no position, and mostly no name."""

    shard: str
    reason: str
    n: int


class TooManyBad(Exception):
    """More bad samples than the budget allows; the message holds the table. Exit code 3."""

    exit_code = 3

    def __init__(self, message: str, counts: Mapping[str, int] | None = None):
        super().__init__(message)
        self.counts = dict(counts or {})


class Budget:
    """At most max(10, max_bad · seen) bad samples at any time and max(1, max_bad · total) in a whole epoch.

    A sample with several bad members is one bad sample; ``counts`` has every reason. lost: what was missing before the
    first read; it counts in each epoch. state: of a run to go on with. whole, remedy: how the message speaks of all
    samples, and what it adds. total: the samples of a single pass, such as an evaluation: their share is allowed from
    its beginning, for a set may have its bad samples in one place.
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
    ):
        self.max_bad, self.lost, self.whole, self.remedy, self.total = max_bad, 0, whole, remedy, total
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
        """What a resumed run begins with, as JSON takes it: a stop does not give the budget back."""
        samples = [self.seen, self.bad, self.epoch_seen, self.epoch_bad]
        return {"samples": samples, "counts": dict(self.counts), "first": dict(self.first)}

    def add(self, found: Iterable[Bad], seen: int) -> None:
        """Count the bad of ``seen`` positions. Raises TooManyBad."""
        found = list(found)
        for bad in found:
            self.counts[bad.reason] = self.counts.get(bad.reason, 0) + 1
            self.first.setdefault(bad.reason, bad.where)
        n = count_bad_samples(found)
        self.seen, self.bad = self.seen + seen, self.bad + n
        self.epoch_seen, self.epoch_bad = self.epoch_seen + seen, self.epoch_bad + n
        self._check(self.bad, max(10, self.max_bad * max(self.seen, self.total)), self.seen, "so far")

    def end_epoch(self) -> None:
        """Raises TooManyBad for an epoch with more than max(1, max_bad · total) bad samples."""
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
    """Whether nothing is there to be bad: a sample without a row, a caption without a word (``text/blank``)."""
    return reason == EMPTY or reason.endswith(f"/{BLANK}")


def is_fault(reason: str) -> bool:
    """Whether a reason counts against the budget. A hole does not, nor a pipeline that began again, nor a member that
    is written all the same (``NOTED``), that no tower reads (``ignored/…``) or whose name no shard may hold
    (``member/…``)."""
    if is_hole(reason) or reason in NOTED or reason == AGAIN:
        return False
    return not reason.startswith(("ignored/", "member/"))


def count_bad_samples(found: Iterable[Bad]) -> int:
    """How many samples (positions) have at least one fault among these."""
    return len({bad.position for bad in found if is_fault(bad.reason)})


def table(counts: Mapping[str, int], first: Mapping[str, str] | None = None) -> str:
    """``reason  count  where it was seen first``, the most frequent first."""
    rows = sorted(Counter(counts).items(), key=lambda item: (-item[1], item[0]))
    width = max((len(reason) for reason, _ in rows), default=0)
    return "\n".join(f"  {reason:<{width}}  {n:>7}  {(first or {}).get(reason, '')}".rstrip() for reason, n in rows)
