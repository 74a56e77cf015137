"""Reading of members at any location, with a check of the tar header and of the checksum (CRC-32) of each."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from math import lcm
from pathlib import Path
from typing import NamedTuple, final

import numpy as np

from align.data.archive.handles import Handles
from align.data.archive.members import ShardIndex
from align.data.archive.tar import BLOCK, sound
from align.data.order import WINDOW
from align.data.places.ahead import Ahead
from align.data.places.keep import Pipe, keep
from align.data.places.servers import Remote, Unreachable
from align.data.places.urls import Location
from align.data.places.window import Range, ranges
from align.files.http import Stat

LARGE = 1 << 16  # bytes: a larger member is read without its header, which saves a copy of it
WINDOWS = 4  # are kept of an unshuffled set, which may be read back and forth
NEIGHBOURS = 256  # samples of a remote shard that are fetched together by default


class ReadOrder(NamedTuple):
    """The samples that this process reads next, so that they are fetched together."""

    order: np.ndarray  # (N,) the sample at each position
    position: int
    stride: int  # this process reads every stride-th position, 0: this one alone
    key: object  # (epoch, modalities): the members depend on them too
    wanted: Callable[[int], np.ndarray]  # shard -> (names,) bool


def usual_block(urls: Sequence[Location]) -> int:
    """Return the default block: 1 for local files, where a seek costs nothing, NEIGHBOURS where a shard is remote."""
    return NEIGHBOURS if any(isinstance(place, Remote) for place in urls) else 1


@final
class MemberReader:
    """Reader of the members of shards: local ones by their offset in an open file, remote ones ahead by the window.

    Args:
        about: the server's statement of each shard, or the error for one that could not be reached.
        cache: bytes that may stand on the disk.
        streams, block: of the order. streams=None: the samples are not shuffled.
    """

    def __init__(
        self,
        urls: Sequence[Location],
        about: Sequence[Stat | Unreachable | None],
        indexes: Sequence[ShardIndex],
        cache: int,
        streams: int | None,
        block: int,
    ):
        self.urls, self.about, self.indexes, self.cache = urls, about, indexes, cache
        self.streams, self.window = streams or 1, WINDOW * block
        self.windows = WINDOWS if streams is None else 1  # kept of a stream: a shuffled one never goes back
        self.ends = np.cumsum([len(index) for index in indexes])  # (shards,) samples up to each shard's end
        self._handles = Handles()
        self._ahead = Ahead(cache)
        for place, said, index in zip(urls, about, indexes, strict=True):
            if isinstance(place, Remote) and isinstance(said, Unreachable) and not len(index.name):
                self._ahead.quarantine(place, str(said))

    def sample(self, shard: int, i: int, reader: ReadOrder) -> tuple[dict[str, bytes], list[tuple[str, str]]]:
        """Return the wanted members of sample i of a shard, and a (member, fault) pair for each that is damaged.

        "unreadable" and "checksum" members are left out. A member with a bad "header" is delivered where its bytes are
        sound. Raises Unreachable for a remote shard that is in quarantine, now or from now on.
        """
        if self.urls[shard] in self._ahead.gone:
            raise Unreachable(f"{self.urls[shard]} is in quarantine")
        index, wanted = self.indexes[shard], reader.wanted(shard)
        members: dict[str, bytes] = {}
        faults: list[tuple[str, str]] = []
        for m in range(int(index.first[i]), int(index.first[i + 1])):
            if not wanted[index.name[m]]:
                continue
            name = index.names[index.name[m]]
            headed, data = self._read(shard, int(index.offset[m]), int(index.size[m]), reader)
            if not headed:
                faults.append((name, "header"))
            if data is not None and zlib.crc32(data) == index.crc32[m]:
                members[name] = data
            else:
                faults.append((name, "unreadable" if data is None else "checksum"))
        return members, faults

    def close(self) -> None:
        """Close the open files and drop the prefetched ranges."""
        self._handles.close()
        self._ahead.close()

    def _read(self, shard: int, offset: int, size: int, reader: ReadOrder) -> tuple[bool, bytes | None]:
        """Return whether a sound header stands before a member, and its bytes (None: they cannot be read)."""
        place, before = self.urls[shard], min(BLOCK, offset)
        said = self.about[shard]
        if isinstance(place, Path):
            if size > LARGE:
                head, data = self._handles.read(place, offset - before, before), self._handles.read(place, offset, size)
                return data is None or (before == BLOCK and head is not None and sound(head)), data
            raw = self._handles.read(place, offset - before, size + before)
        elif isinstance(place, Pipe) or (isinstance(said, Stat) and not said.ranges):
            try:
                path = keep(place, said if isinstance(said, Stat) else None, self.cache)
                raw = self._handles.read(path, offset - before, size + before)
            except Unreachable as error:
                self._ahead.quarantine(place, str(error))
                raise
        else:
            raw = self._fetch(place, Range(shard, offset - before, offset + size), reader)
        if raw is None:
            return True, None  # the fault is "unreadable" then, not "header"
        return before == BLOCK and sound(raw[:BLOCK]), raw[before:]

    def _fetch(self, remote: Remote, member: Range, reader: ReadOrder) -> bytes:
        if reader.stride:
            together, length = lcm(self.streams, reader.stride), self.streams * self.window
            window, line = reader.position // length, reader.position % together
            first = window * length + (line - window * length) % together
            slot = (together, line + together * (window % self.windows))
            positions = slice(first, (window + 1) * length, together)
        else:
            slot, window, positions = (0, 0), reader.position, slice(reader.position, reader.position + 1)
        return self._ahead.read(
            remote,
            member,
            slot=slot,
            window=(window, reader.key),
            plan=lambda: ranges(reader.order[positions], self.indexes, self.ends, reader.wanted),
        )
