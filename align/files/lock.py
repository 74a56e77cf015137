"""A lock between processes. It goes with its process, so that a killed one blocks nobody."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def hold_lock(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Yield True while this process holds the lock file ``path``, False where another has it and ``wait`` is off.

    Where files cannot be locked (a read-only folder, a system without flock) it is True at once. Two processes may then
    do the guarded work, which must be harmless.
    """
    try:
        import fcntl

        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    except (ImportError, OSError):
        yield True
        return
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        except OSError:
            yield True
            return
        try:
            yield True
        finally:
            with suppress(OSError):
                path.unlink()
    finally:
        os.close(file)
