"""What was bad: counted by reason, compared with a budget, and a stop when it is too much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

EMPTY = "sample/empty"
"""A position without a row of a configured modality. Counted, but no fault: shards may have holes."""


class Bad(NamedTuple):
    """One member or sample that could not be used. where: shard and key."""

    reason: str
    where: str
    position: int = -1


class TooManyBad(Exception):
    """More bad samples than the budget allows; the message holds the table. Exit code 3."""

    exit_code = 3

    def __init__(self, message: str, counts: Mapping[str, int] | None = None):
        super().__init__(message)
        self.counts = dict(counts or {})


class Budget:
    """At most max(10, max_bad · seen) bad samples at any time and max(1, max_bad · total) in a whole epoch.

    A sample with several bad members is one bad sample; ``counts`` has every reason.
    """

    def __init__(self, max_bad: float, *, lost: int = 0):
        self.max_bad, self.lost = max_bad, lost  # lost: what was already missing before the first read, in each epoch
        self.counts: dict[str, int] = {}
        self.first: dict[str, str] = {}
        self.seen = self.bad = 0
        self.epoch_seen = self.epoch_bad = 0

    def add(self, found: Iterable[Bad], seen: int) -> None:
        """Count the bad of ``seen`` positions. Raises TooManyBad."""
        positions = set()
        for bad in found:
            self.counts[bad.reason] = self.counts.get(bad.reason, 0) + 1
            self.first.setdefault(bad.reason, bad.where)
            if is_fault(bad.reason):
                positions.add(bad.position)
        self.seen, self.bad = self.seen + seen, self.bad + len(positions)
        self.epoch_seen, self.epoch_bad = self.epoch_seen + seen, self.epoch_bad + len(positions)
        self._check(self.bad, max(10, self.max_bad * self.seen), self.seen, "so far")

    def end_epoch(self) -> None:
        """Raises TooManyBad for an epoch with more than max(1, max_bad · total) bad samples."""
        bad, seen = self.epoch_bad + self.lost, self.epoch_seen
        self.epoch_seen = self.epoch_bad = 0
        self._check(bad, max(1, self.max_bad * seen), seen, "in this epoch")

    def _check(self, bad: int, allowed: float, seen: int, when: str) -> None:
        if self.max_bad >= 1 or bad <= allowed:
            return
        text = f"{bad} of {seen} samples {when} are bad, more than max_bad={self.max_bad:g} allows ({int(allowed)})"
        raise TooManyBad(f"{text}:\n{table(self.counts, self.first)}", self.counts)


def is_fault(reason: str) -> bool:
    """Whether a reason counts against the budget."""
    return reason != EMPTY and not reason.startswith("ignored/")


def table(counts: Mapping[str, int], first: Mapping[str, str] | None = None) -> str:
    """``reason  count  where it was seen first``, the most frequent first."""
    rows = sorted(Counter(counts).items(), key=lambda item: (-item[1], item[0]))
    width = max((len(reason) for reason, _ in rows), default=0)
    return "\n".join(f"  {reason:<{width}}  {n:>7}  {(first or {}).get(reason, '')}".rstrip() for reason, n in rows)
