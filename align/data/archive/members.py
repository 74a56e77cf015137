"""The index of a shard in memory, in columns, and its builder."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ShardIndex:
    """Members of a shard in columns: sample i has the members first[i] to first[i + 1]."""

    keys: list[str]
    first: np.ndarray  # (samples + 1,) int64
    names: list[str]  # the distinct member names
    name: np.ndarray  # (members,) int32, into names
    offset: np.ndarray  # (members,) int64, bytes
    size: np.ndarray  # (members,) int64, bytes
    crc32: np.ndarray  # (members,) int64
    notes: dict[str, int]  # samples and members that the scan had to leave out, by reason

    def __len__(self) -> int:
        return len(self.keys)

    def members(self, i: int) -> list[str]:
        """Return the member names of sample i, in the order of the shard."""
        return [self.names[n] for n in self.name[self.first[i] : self.first[i + 1]]]


class Builder:
    """Builder of an index from members in the order of a shard. Members of a key need not be neighbours."""

    def __init__(self) -> None:
        self.samples: dict[str, dict[str, tuple[int, int, int]]] = {}
        self.notes: Counter[str] = Counter()

    def add(self, key: str, member: str, offset: int, size: int, crc32: int) -> None:
        """Add one member. A second one of the same name is left out and counted."""
        members = self.samples.setdefault(key, {})
        if member in members:
            self.notes["shard/duplicate-member"] += 1
        else:
            members[member] = (offset, size, crc32)

    def build(self) -> ShardIndex:
        names = sorted({name for members in self.samples.values() for name in members})
        number = {name: i for i, name in enumerate(names)}
        flat = [(number[name], *place) for members in self.samples.values() for name, place in members.items()]
        columns = np.array(flat, dtype=np.int64).reshape(len(flat), 4)
        first = np.cumsum([0, *map(len, self.samples.values())], dtype=np.int64)
        name, offset, size, crc32 = columns.T.copy()
        return ShardIndex(
            list(self.samples), first, names, name.astype(np.int32), offset, size, crc32, dict(self.notes)
        )
