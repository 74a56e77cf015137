"""The memory of this process."""

from __future__ import annotations

import os
from pathlib import Path


def measure_memory() -> int:
    """Return the bytes that this process holds in memory, 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
