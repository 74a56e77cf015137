"""Windows of a stream: the members of remote shards that it reads next, joined to few requests.

A stream visits its blocks in windows (``align.data.order``). The members that this process will read in a window are
joined to ranges of at most RANGE bytes. Gaps up to GAP bytes between members are fetched with them, larger ones are
not. So each byte is fetched about once, for any number of readers.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from typing import IO, NamedTuple

import numpy as np

from align.data.archive.members import ShardIndex
from align.data.archive.tar import BLOCK
from align.data.places.servers import Unreachable
from align.files import cache_dir

RANGE = 4 << 20  # bytes of a request, unless one member is larger
GAP = 2048  # bytes between members of neighbours: padding, and an extended header


class Range(NamedTuple):
    """Bytes ``begin`` to ``end`` of a shard."""

    shard: int
    begin: int
    end: int


def ranges(
    numbers: np.ndarray, indexes: Sequence[ShardIndex], ends: np.ndarray, wanted: Callable[[int], np.ndarray]
) -> list[Range]:
    """Return the sorted ranges to request for these samples: members with their headers, neighbours joined.

    numbers: (n,) int64 sample numbers through all shards. wanted: shard -> (names,) bool, the members that are read.
    """
    out: list[Range] = []
    numbers = np.sort(numbers)
    shards = np.searchsorted(ends, numbers, side="right")
    for shard in np.unique(shards).tolist():
        index = indexes[shard]
        local = numbers[shards == shard] - (int(ends[shard - 1]) if shard else 0)
        members = np.concatenate([np.arange(index.first[i], index.first[i + 1]) for i in local])
        members = members[wanted(shard)[index.name[members]]]
        members = members[np.argsort(index.offset[members], kind="stable")]
        begins = np.maximum(index.offset[members] - BLOCK, 0).tolist()
        for begin, end in zip(begins, (index.offset[members] + index.size[members]).tolist(), strict=True):
            last = out[-1] if out and out[-1].shard == shard else None
            if last is not None and begin - last.end <= GAP and end - last.begin <= RANGE:
                out[-1] = Range(shard, last.begin, max(end, last.end))
            else:
                out.append(Range(shard, begin, end))
    return out


class Window:
    """Ranges of one window of one stream. The fetched ones lie in an unlinked file."""

    def __init__(self, key: tuple[int, object], planned: list[Range]):
        self.key, self.ranges = key, planned
        self.starts = [(r.shard, r.begin) for r in planned]
        self.at: dict[int, int] = {}  # range -> where it begins in the file
        self.file: IO[bytes] | None = None
        self.size = 0

    def write(self, i: int, data: bytes) -> None:
        if self.file is None:
            folder = cache_dir() / "ahead"
            folder.mkdir(parents=True, exist_ok=True)
            self.file = tempfile.TemporaryFile(buffering=0, dir=folder)  # noqa: SIM115 - closed with the window
        done = 0
        while done < len(data):
            done += os.pwrite(self.file.fileno(), memoryview(data)[done:], self.size + done)
        self.at[i] = self.size
        self.size += len(data)

    def read(self, i: int, begin: int, end: int) -> bytes:
        data = b"" if self.file is None else os.pread(self.file.fileno(), end - begin, self.at[i] + begin)
        if len(data) < end - begin:
            raise Unreachable("what was fetched ahead cannot be read again from the disk")
        return data

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
