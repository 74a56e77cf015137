"""Reading remote shards ahead: neighbouring members come in one request and wait on the disk until they are asked for.

A stream of the order visits its blocks in windows (``align.data.order``). The members that this process will read in a
window are joined to ranges of at most RANGE bytes; a range is fetched when its first member is asked for, and the
window's ranges go when the stream enters the next. So each byte is fetched about once, whoever reads: gaps up to GAP
bytes between members are fetched with them, larger ones are not. What waits stands in unlinked files in $ALIGN_CACHE;
beyond ``limit`` bytes members are fetched one by one. Memory: one range.
"""

from __future__ import annotations

import logging
import os
import tempfile
import weakref
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import IO, Any, NamedTuple

import numpy as np

from align.data.index import Index
from align.data.keep import Pipe
from align.data.remote import Remote, Unreachable, fetch
from align.data.tar import BLOCK
from align.files import cache_dir

RANGE = 4 << 20  # bytes of a request; a larger member is one request of its own
GAP = 2048  # bytes between members of neighbours: padding, and an extended header
log = logging.getLogger("align.data")


class Range(NamedTuple):
    """Bytes ``begin`` to ``end`` of a shard."""

    shard: int
    begin: int
    end: int


def ranges(
    numbers: np.ndarray, indexes: Sequence[Index], ends: np.ndarray, wanted: Callable[[int], np.ndarray]
) -> list[Range]:
    """What to request for these samples, sorted: their members with the headers before them, neighbours joined.

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


class _Window:
    """The ranges of one window of one stream, and those of them that were fetched, in an unlinked file."""

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


class Ahead:
    """The windows of the streams that this process reads. A pickled or forked copy starts empty."""

    def __init__(self, limit: int):
        self.limit = limit
        self.gone: set[Remote | Pipe] = set()
        self._start()

    def _start(self) -> None:
        self._windows: dict[tuple[int, int], _Window] = {}
        self._pid = os.getpid()
        self._finalizer = weakref.finalize(self, _close, self._windows)

    def read(
        self,
        remote: Remote,
        what: Range,
        *,
        slot: tuple[int, int],
        window: tuple[int, object],
        plan: Callable[[], list[Range]],
    ) -> bytes:
        """The bytes of a member, from the window of its stream where they lie in one of its ranges.

        slot: how many streams there are for this reader, and which; window: which of its windows, and what else (epoch,
        modalities) it depends on; plan: its ranges. Raises Unreachable; the shard is then in quarantine: it is asked no
        more, and one line was logged.
        """
        if self._pid != os.getpid():
            self.close()  # the files of the process that forked
            self._pid = os.getpid()
        found = self._windows.get(slot)
        if found is None or found.key != window:
            self._drop(lambda other, _: other == slot or other[0] != slot[0])  # or streams of another layout
            found = self._windows[slot] = _Window(window, plan())
        try:
            return self._member(remote, what, found)
        except Unreachable as error:
            self.quarantine(remote, str(error))
            raise

    def quarantine(self, remote: Remote | Pipe, why: str) -> None:
        """Ask this shard no more, and say so once."""
        if remote not in self.gone:
            self.gone.add(remote)
            log.warning("quarantined: %s; the positions of its samples stay empty (shard/unreachable)", why)

    def close(self) -> None:
        """Forget what was fetched."""
        _close(self._windows)

    def _member(self, remote: Remote, what: Range, window: _Window) -> bytes:
        i = bisect_right(window.starts, (what.shard, what.begin)) - 1
        here = window.ranges[i] if i >= 0 else None
        if here is None or here.shard != what.shard or here.end < what.end:
            return fetch(remote, what.begin, what.end)
        begin, end = what.begin - here.begin, what.end - here.begin
        if i not in window.at:
            held = sum(w.size for w in self._windows.values())
            if held + here.end - here.begin > self.limit:
                self._drop(lambda _, other: other.key[1] != window.key[1])  # what another epoch left
                return fetch(remote, what.begin, what.end)
            data = fetch(remote, here.begin, here.end)
            try:
                window.write(i, data)
            except OSError as error:  # the disk is full, or there are no more descriptors
                log.warning("nothing more is kept in %s (%s): members are fetched one by one", cache_dir(), error)
                self.limit = held
                return data[begin:end]
        return window.read(i, begin, end)

    def _drop(self, stale: Callable[[tuple[int, int], _Window], bool]) -> None:
        for slot in [slot for slot, window in self._windows.items() if stale(slot, window)]:
            self._windows.pop(slot).close()

    def __getstate__(self) -> dict[str, Any]:
        return {"limit": self.limit, "gone": self.gone}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.limit, self.gone = state["limit"], state["gone"]
        self._start()


def _close(windows: dict[tuple[int, int], _Window]) -> None:
    while windows:
        windows.popitem()[1].close()
