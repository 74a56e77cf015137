"""Journal of the shards that a long build has finished, from which a killed build resumes.

``OUT/.SPLIT.build.jsonl``: the first line names the input and the options, each further line one finished shard. The
file is removed when the build ends well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final


@final
class Journal:
    """Journal of one split in one folder. One process at a time holds it, in a ``with`` block.

    ``entries``: shards that earlier runs with the same ``header`` finished. A line that a kill cut in half is dropped.

    Args:
        header: the input and every option that the bytes follow from. Another header starts anew.
        resume: False starts anew too.

    Raises BlockingIOError where another process is writing this split.
    """

    def __init__(self, folder: Path, split: str, header: Mapping[str, Any], *, resume: bool = True):
        self.path = folder / f".{split}.build.jsonl"
        self.header, self.resume = dict(header), resume
        self.entries: list[dict[str, Any]] = []
        self._lines: list[bytes] = []

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "a+b")  # closed in __exit__
        try:
            _lock(self._file.fileno(), self.path)
            self._load()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.path.unlink(missing_ok=True)
        self._file.close()

    def add(self, entry: Mapping[str, Any]) -> None:
        """Add one finished shard. The entry is on the disk when this returns."""
        self.entries.append(dict(entry))
        self._append(_line(entry))

    def keep(self, n: int) -> None:
        """Forget all but the first ``n`` entries."""
        if n < len(self.entries):
            self.entries, self._lines = self.entries[:n], self._lines[: n + 1]
            self._file.truncate(sum(map(len, self._lines)))

    def _load(self) -> None:
        self._file.seek(0)
        lines = [line for line in self._file.read().splitlines(keepends=True) if line.endswith(b"\n")]
        header = _line(self.header)
        if self.resume and lines and lines[0] == header:
            entries: list[dict[str, Any]] = []
            for line in lines[1:]:
                try:
                    entries.append(json.loads(line))
                except ValueError:
                    break
            self.entries, self._lines = entries, lines[: 1 + len(entries)]
        self._file.truncate(sum(map(len, self._lines)))
        if not self._lines:
            self._append(header)

    def _append(self, *lines: bytes) -> None:
        self._lines += lines
        self._file.write(b"".join(lines))
        self._file.flush()
        os.fsync(self._file.fileno())


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"


def _lock(descriptor: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # a system without such locks
        return
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the process holds it, its forked workers do not
    except OSError:
        raise BlockingIOError(
            f"another process is building here ({path}); wait for it, or take another folder"
        ) from None
