"""Prefetch of remote shards: a range is fetched with its first member, and its other members are read from the disk.

The next ranges of the shard are fetched at the same time. The ranges of a window are dropped when their stream enters
the next window. Fetched ranges lie in unlinked files in $ALIGN_CACHE. Beyond ``limit`` bytes, members are fetched one
by one. The memory is AHEAD bytes.
"""

from __future__ import annotations

import logging
import os
import weakref
from bisect import bisect_right
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from align.data.places.keep import Pipe
from align.data.places.servers import Remote, Unreachable, fetch
from align.data.places.window import Range, Window
from align.files import cache_dir

TOGETHER = 8  # requests at a time
AHEAD = 16 << 20  # bytes of them
log = logging.getLogger("align.data")


class Ahead:
    """Windows of the streams that this process reads. A pickled or forked copy starts empty."""

    def __init__(self, limit: int):
        self.limit = limit
        self.gone: set[Remote | Pipe] = set()
        self._start()

    def _start(self) -> None:
        self._windows: dict[tuple[int, int], Window] = {}
        self._pid = os.getpid()
        self._finalizer = weakref.finalize(self, _close, self._windows)

    def read(
        self,
        remote: Remote,
        member: Range,
        *,
        slot: tuple[int, int],
        window: tuple[int, object],
        plan: Callable[[], list[Range]],
    ) -> bytes:
        """Return the bytes of a member, from the window of its stream where one of its ranges holds them.

        slot: (the number of streams of this reader, or 0 where the sample is read alone; the stream). window: (the
        number of the window, its further key of epoch and modalities). plan: returns the window's ranges.
        Raises Unreachable. The shard is then in quarantine: it is asked no more, and one line was logged.
        """
        if self._pid != os.getpid():
            self.close()  # the files of the process that forked
            self._pid = os.getpid()
        found = self._windows.get(slot)
        if found is None or found.key != window:
            others = {0, slot[0]}  # a sample read alone ends no stream, another number of streams ends all
            self._drop(lambda other, _: other == slot or (slot[0] > 0 and other[0] not in others))
            found = self._windows[slot] = Window(window, plan())
        try:
            return self._member(remote, member, found)
        except Unreachable as error:
            self.quarantine(remote, str(error))
            raise

    def quarantine(self, remote: Remote | Pipe, why: str) -> None:
        """Ask this shard no more, and log it the first time."""
        if remote not in self.gone:
            self.gone.add(remote)
            log.warning("quarantined: %s; the positions of its samples stay empty (shard/unreachable)", why)

    def close(self) -> None:
        """Drop everything that was fetched."""
        _close(self._windows)

    def _member(self, remote: Remote, member: Range, window: Window) -> bytes:
        i = bisect_right(window.starts, (member.shard, member.begin)) - 1
        here = window.ranges[i] if i >= 0 else None
        if here is None or here.shard != member.shard or here.end < member.end:
            return fetch(remote, member.begin, member.end)
        begin, end = member.begin - here.begin, member.end - here.begin
        if i not in window.at:
            held = sum(w.size for w in self._windows.values())
            if held + here.end - here.begin > self.limit:
                self._drop(lambda _, other: other.key[1] != window.key[1])  # windows of another epoch
                return fetch(remote, member.begin, member.end)
            for j, data in _fetch_all(remote, window, _next(window, i, min(AHEAD, self.limit - held))):
                try:
                    window.write(j, data)
                except OSError as error:  # the disk is full, or there are no more descriptors
                    log.warning("nothing more is kept in %s (%s): members are fetched one by one", cache_dir(), error)
                    self.limit = 0
                    if j == i:
                        return data[begin:end]
                    break
        return window.read(i, begin, end)

    def _drop(self, stale: Callable[[tuple[int, int], Window], bool]) -> None:
        for slot in [slot for slot, window in self._windows.items() if stale(slot, window)]:
            self._windows.pop(slot).close()

    def __getstate__(self) -> dict[str, Any]:
        return {"limit": self.limit, "gone": self.gone}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.limit, self.gone = state["limit"], state["gone"]
        self._start()


def _next(window: Window, i: int, most: int) -> list[int]:
    """Return range i and the unfetched ones after it in its shard: at most TOGETHER, of ``most`` bytes in all."""
    out, size = [i], window.ranges[i].end - window.ranges[i].begin
    for j in range(i + 1, min(i + TOGETHER, len(window.ranges))):
        size += window.ranges[j].end - window.ranges[j].begin
        if window.ranges[j].shard != window.ranges[i].shard or j in window.at or size > most:
            break
        out.append(j)
    return out


def _fetch_all(remote: Remote, window: Window, asked: list[int]) -> list[tuple[int, bytes]]:
    """Fetch these ranges at the same time. Raises Unreachable where the first fails. Others that fail are left out."""
    if len(asked) == 1:
        return [(asked[0], fetch(remote, window.ranges[asked[0]].begin, window.ranges[asked[0]].end))]
    with ThreadPoolExecutor(len(asked)) as pool:
        waiting = {j: pool.submit(fetch, remote, window.ranges[j].begin, window.ranges[j].end) for j in asked}
    out = []
    for j, future in waiting.items():
        try:
            out.append((j, future.result()))
        except Unreachable:
            if j == asked[0]:
                raise
    return out


def _close(windows: dict[tuple[int, int], Window]) -> None:
    while windows:
        windows.popitem()[1].close()
