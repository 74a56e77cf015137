"""Exchange of a folder for another one under its name, and the files that a killed writer leaves."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

_LEFT = re.compile(r"\.(.+)\.[0-9a-f]{12}\.(tmp|old)", re.DOTALL)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def swap(work: Path, path: Path, old: Path) -> None:
    """Give the folder ``work`` the name ``path``. A folder that stood there gets the name ``old``, or ``work``.

    Linux exchanges two names in one call. Elsewhere, and on file systems that cannot, the old folder is renamed first:
    a process that is killed in between leaves no ``path``, and ``restore`` brings the old folder back.
    """
    if not path.exists():
        work.rename(path)
        return
    if _exchange(work, path):
        return
    path.rename(old)
    try:
        work.rename(path)
    except OSError:
        old.rename(path)
        raise


def restore(folder: Path) -> None:
    """Give folders their names back that a killed ``swap`` has taken. Several processes may do it at the same time."""
    for left, name, end in _list_left(folder):
        if end == "old" and not (folder / name).exists():
            with suppress(OSError):  # another process was faster
                left.rename(folder / name)


def remove_leftovers(folder: Path, names: Collection[str] | None = None) -> None:
    """Remove the temporary files and folders that killed writers left in a folder, after ``restore``.

    No other process may write into it meanwhile. names: of the files that were being written, None for any.
    """
    restore(folder)
    for left, name, _ in _list_left(folder):
        if names is None or name in names:
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                with suppress(OSError):
                    left.unlink()


def _list_left(folder: Path) -> list[tuple[Path, str, str]]:
    """Return (path, final name, ending) of the temporary names that ``atomic_write`` and ``atomic_folder`` make."""
    try:
        found = sorted(folder.iterdir())
    except OSError:
        return []
    matched = [(path, _LEFT.fullmatch(path.name)) for path in found]
    return [(path, match[1], match[2]) for path, match in matched if match]


def _exchange(a: Path, b: Path) -> bool:
    """Exchange two names in one call. False where the system or the file system cannot."""
    call = _renameat2()
    return call is not None and call(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0


@cache
def _renameat2() -> Any:
    """Return Linux's renameat2, None where the C library has none."""
    import ctypes

    try:
        return ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return None
