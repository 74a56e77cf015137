"""A tar that is being written, under a temporary name until it is complete."""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, final

from align.data.archive.index import stamp, write_index
from align.data.archive.members import Builder
from align.data.archive.tar import BLOCK, RECORD, header, padding
from align.data.labels import attributes
from align.files import atomic_write


@final
class ShardFile:
    """A shard that takes samples. ``finish`` puts the tar and its index in place, ``abandon`` leaves nothing."""

    def __init__(self, path: Path):
        self.path = path
        self.samples = self.size = 0
        self.coverage: Counter[str] = Counter()
        self.labels: dict[str, dict[str, Any]] = {}  # attribute -> the distinct label values
        self._captions: list[set[int]] = []  # of each sample without a group
        self._hash = hashlib.sha256()
        self._index = Builder()
        self._context: AbstractContextManager[IO[bytes]] = atomic_write(path)
        self._file = self._context.__enter__()

    def write(self, key: str, members: Mapping[str, bytes]) -> None:
        """Write one sample, which the caller has checked."""
        for name, data in members.items():
            self._put(header(f"{key}.{name}", len(data)))
            self._index.add(key, name, self.size, len(data), zlib.crc32(data))
            self._put(data + padding(len(data)))
        self.samples += 1

    def collect(self, label: Any) -> None:
        """Note the values of a label, for the classes of the set."""
        for attribute, value in attributes(label).items():
            for one in value if isinstance(value, list) else [value]:
                if one is not None:
                    self.labels.setdefault(attribute, {})[f"{type(one).__name__}:{one}"] = one

    def note(self, captions: Iterable[str]) -> None:
        """Note the captions of a sample that has no group, for ``repeated``."""
        self._captions.append({hash(text) for text in captions})

    @property
    def repeated(self) -> int:
        """The number of samples without a group that share a caption with another such sample."""
        counts = Counter(one for some in self._captions for one in some)
        return sum(any(counts[one] > 1 for one in some) for some in self._captions)

    def finish(self) -> dict[str, Any]:
        """Put the shard at its path and return its entry in the manifest."""
        self._put(bytes(2 * BLOCK))  # the end of the archive
        self._put(padding(self.size, RECORD))
        self._context.__exit__(None, None, None)
        write_index(self._index.build(), self.path, stamp(self.path))
        return {
            "samples": self.samples,
            "size": self.size,
            "sha256": self._hash.hexdigest(),
            "modalities": dict(sorted(self.coverage.items())),
            **({"repeated": repeated} if (repeated := self.repeated) else {}),
        }

    def abandon(self, kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        """Remove the temporary file."""
        self._context.__exit__(kind, error, trace)

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)
