"""The account of a run's bad samples: counts by shard and reason, and bad members by name, up to a limit."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

from align.data.bad import Bad, count_bad_samples, is_fault
from align.distributed import exchange, world

LIMIT = 10_000


@final
class Ledger:
    """Counts by reason and by shard, and a list with a line for each bad member (``take``).

    A member is listed where it was met first. A later epoch only counts it again. A hole (``sample/empty``) and a
    member that no tower reads (``ignored/…``) are counted and not listed: they are no faults.

    Args:
        limit: the number of listed members, which bounds the memory too. Further ones are only counted.
    """

    def __init__(self, limit: int = LIMIT):
        self.limit = limit
        self.seen = self.bad = 0  # samples, and those with a fault
        self._reasons: Counter[str] = Counter()
        self._shards: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._known: set[tuple[str, ...]] = set()
        self._lines: list[dict[str, Any]] = []
        self._full = False

    def add(self, found: Sequence[Bad], *, seen: int, split: str, epoch: int, step: int) -> None:
        """Account for the bad of a step's ``seen`` samples. step: as in metrics.csv, 1 is the first."""
        self.seen, self.bad = self.seen + seen, self.bad + count_bad_samples(found)
        for bad in found:
            self._reasons[bad.reason] += 1
            self._shards[bad.shard][bad.reason] += 1
            if is_fault(bad.reason):
                self._list(bad, {"split": split, "epoch": epoch, "step": step})

    def add_lost(self, shard: str, reason: str, n: int) -> None:
        """Count samples that a shard had lost before it was read, to a cut or a damaged header. They have no name."""
        self._reasons[reason] += n
        self._shards[shard][reason] += n

    def _list(self, bad: Bad, place: dict[str, Any]) -> None:
        name = (bad.shard, bad.key, bad.member, bad.reason)
        if self._full or name in self._known:
            return
        if len(self._known) < self.limit:
            self._known.add(name)
            names = {"shard": bad.shard, "key": bad.key, "member": bad.member, "reason": bad.reason}
            self._lines.append({**names, "position": bad.position, **place})
        else:
            self._full = True
            self._lines.append({"more": f"only {self.limit} members are listed; bad-shards.json counts all", **place})

    def take(self) -> list[dict[str, Any]]:
        """Return the lines since the last call: shard, key, member, reason, position in its epoch, split, epoch, step.

        After ``limit`` members there is one last line, with ``more`` in place of the names, and no other.
        """
        lines, self._lines = self._lines, []
        return lines

    def skip_listed(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Note the lines of an earlier list, whose members are not listed again."""
        for line in lines:
            if "more" in line:
                self._full = True
            else:
                self._known.add(tuple(str(line[name]) for name in ("shard", "key", "member", "reason")))

    @property
    def reasons(self) -> dict[str, int]:
        """Reason -> count, of all shards."""
        return dict(self._reasons)

    @property
    def faults(self) -> int:
        """The number of faults. A hole, or a member that no tower reads, is none."""
        return sum(n for reason, n in self._reasons.items() if is_fault(reason))

    @property
    def shards(self) -> dict[str, dict[str, int]]:
        """Shard -> reason -> count."""
        return {shard: dict(sorted(counts.items())) for shard, counts in sorted(self._shards.items())}

    def state(self) -> dict[str, Any]:
        """Return the counts, for JSON, for a run that goes on from here."""
        return {"samples": [self.seen, self.bad], "shards": self.shards}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from an earlier ``state``."""
        self.seen, self.bad = state["samples"]
        self._shards = defaultdict(Counter, {shard: Counter(counts) for shard, counts in state["shards"].items()})
        self._reasons = sum(self._shards.values(), Counter[str]())


def everyones(found: Sequence[Bad]) -> list[Bad]:
    """Return the bad of all ranks, by position, the same list on each. Every rank must call it in the same step.

    Costs one exchange of a number, and one of names in a step in which any rank has something bad.
    """
    if world() == 1:
        return list(found)
    parts = exchange(json.dumps(found).encode() if found else b"")
    return sorted((Bad(*row) for part in parts if part for row in json.loads(part)), key=lambda bad: bad.position)
