"""One part of a cache, mapped into memory. Its blocks are checked against their checksums at their first use."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import torch

from align.data.columns.part import BlockEntry, read_record
from align.data.grades import read_grades

DTYPES = {"F32": np.dtype("float32"), "F16": np.dtype("float16"), "I64": np.dtype("int64")}


class TensorPlace(NamedTuple):
    """The place of a tensor in the part: its first byte, its shape and its dtype."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype


NONE: dict[str, int] = {}


@final
class About:
    """The json of a block, in little memory: keys as bytes, equal labels and sources as one object.

    group: (count,) int64, weight: (count,) float32, NaN where a sample states none. None where no sample has one.
    """

    group: np.ndarray | None = None
    weight: np.ndarray | None = None

    def __init__(self, content: dict[str, Any], known: dict[str, Any]):
        self.keys = np.array([key.encode("utf-8", "surrogateescape") for key in content["keys"]], dtype=np.bytes_)
        count = len(self.keys)
        self.labels = [_share(label, known) for label in content.get("labels") or [None] * count]
        self.sources = [_share(source, known) for source in content.get("source") or [""] * count]
        self.bad: dict[int, list[tuple[str, str]]] = {}
        self.grades = [_read_grade(stated) for stated in content.get("grades") or [{}] * count]
        for position, reason, member in content.get("bad", []):
            self.bad.setdefault(int(position), []).append((str(reason), str(member)))

    def key(self, i: int) -> str:
        """Return the key of the block's i-th sample."""
        return self.keys[i].decode("utf-8", "surrogateescape")


def _read_grade(stated: Any) -> dict[str, int]:
    return read_grades(stated)[0] if stated else NONE


def _share(value: Any, known: dict[str, Any]) -> Any:
    return value if value is None else known.setdefault(json.dumps(value, sort_keys=True), value)


@final
class PartFile:
    """A part and its record. Opening it checks its length. The first use of a block checks its checksums.

    The file is mapped when it is first read. A copy in another process maps it again.
    """

    def __init__(self, path: Path):
        self.path, self.record = path, read_record(path)
        self._bytes: np.ndarray | None = None
        self._known: dict[str, Any] = {}

    @property
    def bytes(self) -> np.ndarray:
        """The mapped file, (length,) uint8. Its pages belong to the page cache, which all processes share."""
        if self._bytes is None:
            try:  # torch maps a file without holding its descriptor, of which a process has few
                storage = torch.UntypedStorage.from_file(str(self.path), shared=False, nbytes=self.record.length)
            except RuntimeError as error:
                raise OSError(f"{self.path} cannot be read: {' '.join(str(error).split())[:200]}") from error
            mapped = torch.empty(0, dtype=torch.uint8).set_(storage)  # pyright: ignore[reportArgumentType]
            self._bytes = mapped.numpy()
        return self._bytes

    def is_sound(self, block: BlockEntry) -> bool:
        """Return True where the checksums of a block's tensors and of its json are the record's."""
        places = ((block.offset, block.length, block.crc32), (block.json_offset, block.json_length, block.json_crc32))
        return all(zlib.crc32(self._cut(at, length).data) == crc for at, length, crc in places)

    def find_tensors(self, block: BlockEntry) -> dict[str, TensorPlace]:
        """Return the places of a block's tensors by name, {} where its header is damaged."""
        try:
            size = int.from_bytes(self._cut(block.offset, 8).tobytes(), "little")
            if size > block.length - 8:
                return {}
            content = json.loads(self._cut(block.offset + 8, size).tobytes())
            found = {}
            for name, about in content.items():
                if name == "__metadata__":
                    continue
                begin, end = about["data_offsets"]
                shape, dtype = tuple(map(int, about["shape"])), DTYPES[about["dtype"]]
                if not 0 <= begin <= end <= block.length - 8 - size or _size(shape, dtype) != end - begin:
                    return {}
                found[name] = TensorPlace(block.offset + 8 + size + begin, shape, dtype)
            return found
        except (ValueError, KeyError, TypeError, AttributeError):
            return {}

    def read(self, place: TensorPlace) -> np.ndarray:
        """Return a copy of a tensor."""
        return self._cut(place.offset, _size(place.shape, place.dtype)).copy().view(place.dtype).reshape(place.shape)

    def about(self, block: BlockEntry) -> About:
        """Return the json of a sound block."""
        return About(json.loads(self._cut(block.json_offset, block.json_length).tobytes()), self._known)

    def close(self) -> None:
        """Unmap the file. Reading maps it again."""
        self._bytes = None

    def _cut(self, offset: int, length: int) -> np.ndarray:
        return self.bytes[offset : offset + length]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_bytes": None}


def _size(shape: tuple[int, ...], dtype: np.dtype) -> int:
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
