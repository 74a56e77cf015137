"""Open files of shards: a bounded number of descriptors, read at an offset."""

from __future__ import annotations

import os
import weakref
from collections import OrderedDict
from pathlib import Path
from typing import Any

LIMIT = 64


class Handles:
    """Descriptors by path. ``pread`` keeps no position, so forked workers may share them. A pickled copy has none."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, int] = OrderedDict()
        self._finalizer = weakref.finalize(self, _close, self._open)

    def read(self, path: Path, offset: int, size: int) -> bytes | None:
        """Return exactly ``size`` bytes at ``offset``, None where they cannot be read."""
        try:
            parts, got = [], 0
            while got < size:
                part = os.pread(self._descriptor(path), size - got, offset + got)
                if not part:
                    return None
                parts.append(part)
                got += len(part)
        except OSError:
            return None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        _close(self._open)

    def _descriptor(self, path: Path) -> int:
        if path in self._open:
            self._open.move_to_end(path)
        else:
            self._open[path] = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            while len(self._open) > LIMIT:
                os.close(self._open.popitem(last=False)[1])
        return self._open[path]

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()


def _close(handles: OrderedDict[Path, int]) -> None:
    while handles:
        os.close(handles.popitem()[1])
