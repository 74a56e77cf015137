"""A lock between processes. It goes with its process, so that a killed one blocks nobody."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def hold_lock(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Yield True while this process holds the lock file ``path``, False where another has it and ``wait`` is off.

    The file is removed at the end. Where files cannot be locked (a read-only folder, a system without flock) it is True
    at once. Two processes may then do the guarded work, which must be harmless.
    """
    try:
        file = _lock(path, wait)
    except BlockingIOError:
        yield False
        return
    except (ImportError, OSError):
        yield True
        return
    try:
        yield True
    finally:
        _release(path, file)


def _lock(path: Path, wait: bool) -> int:
    """Return the descriptor of the locked file that stands at the path.

    Raises BlockingIOError where another process has it, ImportError or OSError where files cannot be locked.
    """
    import fcntl

    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if _stands_at(path, file):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # its last holder has removed it, and others lock the file that stands there now


def _stands_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _release(path: Path, file: int) -> None:
    """Remove the file while it is still locked, so that nobody's else is removed, and unlock it.

    To close it would not be enough: a process that was forked meanwhile has the same lock open.
    """
    import fcntl

    with suppress(OSError):
        path.unlink()
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_UN)
    os.close(file)
