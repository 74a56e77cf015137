"""A part of a cache: one tar of blocks for one source shard, and its record beside it.

Members, in order: ``NNNNNN.block.safetensors`` and ``NNNNNN.block.json``, where NNNNNN is the block's first position
over BLOCK. The tensors are ``MODALITY.values`` (n, W), ``MODALITY.sample`` (n,) int64: the position in the shard, or
``mark(position)`` of a hard negative, in ascending order of positions. Where a column has tokens, also
``MODALITY.tokens`` (ΣL, W) and ``MODALITY.offset`` (n + 1,) int64. ``group`` (count,) int64 and ``weight`` (count,)
float32 (NaN where a sample states none) are there if any sample of the block has one.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self, final

from torch import Tensor

from align.data.archive.tar import BLOCK as ROUND
from align.data.archive.tar import RECORD, header, padding
from align.data.columns.format import BLOCK, part_path, record_path
from align.files import atomic_write, read_json, write_json


class BlockEntry(NamedTuple):
    """Entry of one block in the record of its part: its positions, and its place in the tar.

    offset, length, crc32: of the tensors. json_offset, json_length, json_crc32: of the json.
    """

    start: int
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]
    offset: int
    length: int
    crc32: int
    json_offset: int
    json_length: int
    json_crc32: int


class Record(NamedTuple):
    """The record of a part. sha256, length: of the tar. source: SHA-256 of the source shard.

    longest: modality -> most tokens of a row.
    """

    sha256: str
    length: int
    source: str
    samples: int
    blocks: list[BlockEntry]
    longest: dict[str, int]


@final
class PartWriter:
    """Writer of one part, whole or not at all: ``with PartWriter(cache, set, shard, source=hex) as part: part.add``."""

    def __init__(self, cache: Path, set: str, shard: str, *, source: str):
        self.path, self.source = part_path(cache, set, shard), source
        self._blocks: list[BlockEntry] = []
        self._longest: dict[str, int] = {}
        self._hash, self._size = hashlib.sha256(), 0

    def __enter__(self) -> Self:
        self._context = atomic_write(self.path)
        self._file: IO[bytes] = self._context.__enter__()
        return self

    def add(self, start: int, count: int, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Add the block of ``count`` positions from ``start`` on.

        tensors: as above. about: {"keys": [...], "labels": [...], "source": [...], "bad": [[position, reason, member],
        ...]}.
        """
        from safetensors.torch import save

        name = f"{start // BLOCK:06d}.block"
        ready = {key: x.detach().cpu().contiguous() for key, x in tensors.items()}
        data = save(ready)
        text = json.dumps({"start": start, "count": count, **about}, ensure_ascii=True).encode()
        at, about_at = self._put(f"{name}.safetensors", data), self._put(f"{name}.json", text)
        sums = zlib.crc32(data), zlib.crc32(text)
        self._blocks.append(BlockEntry(start, count, at, len(data), sums[0], about_at, len(text), sums[1]))
        for key, x in ready.items():
            if key.endswith(".offset") and len(x) > 1:
                m = key.removesuffix(".offset")
                self._longest[m] = max(self._longest.get(m, 0), int(x.diff().max()))

    def _put(self, name: str, data: bytes) -> int:
        """Write a member and return the offset of its content."""
        for piece in (header(name, len(data)), data, padding(len(data))):
            self._write(piece)
        return self._size - len(data) - len(padding(len(data)))

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self._size += len(data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._write(bytes(2 * ROUND))  # the end of the archive
            self._write(padding(self._size, RECORD))
        self._context.__exit__(kind, error, trace)
        if kind is None:
            samples = sum(block.count for block in self._blocks)
            record = Record(self._hash.hexdigest(), self._size, self.source, samples, self._blocks, self._longest)
            write_json(record_path(self.path), record._asdict(), indent=None)


def read_record(part: Path) -> Record:
    """Return the record of a part. Raises FileNotFoundError where the part or its record is not there, and ValueError
    for a damaged record and for a part of another length.
    """
    path = record_path(part)
    if not part.is_file() or not path.is_file():
        raise FileNotFoundError(f"no part {part}; the same `align embed` command goes on with it")
    content = read_json(path)
    try:
        record = Record(**content)
        record = record._replace(blocks=[BlockEntry(*map(int, block)) for block in record.blocks])
    except (TypeError, ValueError):
        raise ValueError(f"{path} is no record of a part; remove it and run the same `align embed` command") from None
    if part.stat().st_size != record.length:
        raise ValueError(
            f"{part} is cut: {part.stat().st_size} bytes, its record says {record.length}; remove it and run the same "
            "`align embed` command"
        )
    starts = [0, *(block.start + block.count for block in record.blocks)]
    if starts[:-1] != [block.start for block in record.blocks] or starts[-1] != record.samples:
        raise ValueError(f"{path} is damaged: its blocks do not follow each other up to {record.samples} samples")
    return record
