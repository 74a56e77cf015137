"""Memory that the C library has freed goes back to the system while the server runs."""

from __future__ import annotations

import asyncio
import ctypes

EVERY = 60.0  # seconds


def trim() -> bool:
    """Give freed memory back to the system. Returns False where the C library has no such call (it is of glibc).

    It keeps freed memory between blocks in use, 20 MiB of a small server.
    """
    try:
        call = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # TypeError: on Windows
        return False
    call(0)
    return True


async def trim_often(every: float = EVERY) -> None:
    """Trim every so many seconds, in a thread, until it is cancelled."""
    while await asyncio.to_thread(trim):
        await asyncio.sleep(every)
