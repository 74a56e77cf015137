"""Growing memory: the bytes in use rise steadily."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import final

from align.diagnostics.read import Alarm
from align.diagnostics.watch.glance import EVERY, Glance

WARM = 100  # steps in which buffers, caches and the allocator settle
GLANCES = 24  # of the window in which memory has to rise, a multiple of 4
LEAST = 32 << 20  # bytes in the window
MIB = 1 << 20


@final
class GrowingMemory:
    """Watcher of the memory of this process with its data workers, and of its GPU.

    Memory grows steadily where each quarter of the last 240 steps lies above the quarter before in all of its glances.
    A jump is no steady growth, and neither is a saw-tooth. Until every source has been read one time, decoded samples
    are kept (``data.keep``), so growth up to that size is no alarm.

    keep: bytes in which decoded samples are kept.
    """

    def __init__(self, keep: int = 0):
        self.keep = keep
        self.start: dict[str, tuple[int, int]] = {}  # the first step that counts, and the bytes then
        self.window: dict[str, deque[int]] = {}
        self.full = False

    def look(self, glance: Glance) -> Iterator[Alarm]:
        if glance.full and not self.full:  # no sample is kept from now on
            self.full = True
            self.start.clear()
            self.window.clear()
        for kind, used in glance.memory.items():
            first, before = self.start.setdefault(kind, (glance.step + WARM, used))
            if glance.step < first:
                self.start[kind] = (first, used)
                continue
            window = self.window.setdefault(kind, deque(maxlen=GLANCES))
            window.append(used)
            growth = window[-1] - window[0]
            kept = self.keep if kind == "memory" and not glance.full else 0
            if len(window) < GLANCES or growth < LEAST or used - before < kept + LEAST or not is_steady(window):
                continue
            yield Alarm(
                glance.step,
                "growing-memory",
                kind,
                f"{kind} grows by {growth / MIB / (GLANCES - 1) / EVERY:.2g} MiB a step, and is at {used / MIB:,.0f} "
                f"MiB",
                "something is kept at each step: look for a list of tensors in a callback, an encoder or a loss "
                "(.detach() or float() before it is kept), or for a preprocess that keeps what it has read",
            )


def is_steady(window: deque[int]) -> bool:
    """Return True where every value of a quarter is above all of the quarter before."""
    values = list(window)
    size = len(values) // 4
    quarters = [values[i * size : (i + 1) * size] for i in range(4)]
    return all(max(a) < min(b) for a, b in pairwise(quarters))


def count_used() -> int | None:
    """Return the resident bytes of this process and of its children, which read data. None: not on Linux.

    Pages of mapped files do not count.
    """
    try:
        children = Path("/proc/self/task", str(os.getpid()), "children").read_text().split()
        return os.sysconf("SC_PAGE_SIZE") * sum(_count_pages(number) for number in ("self", *children))
    except (OSError, ValueError, IndexError):
        return None


def _count_pages(process: str) -> int:
    try:
        found = Path("/proc", process, "statm").read_text().split()
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return 0
    return int(found[1]) - int(found[2])  # resident, and those of them that are shared
