"""Segments: files of rows that are written a single time, in ascending order of their samples, and mapped to be read.

A segment is a safetensors file: ``values`` (n, D) unit vectors, ``norm`` (n,) their lengths before, ``sample`` (n,).
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from align.data.meta import is_text

FOLDER = "segments"
ROWS = 1 << 18  # rows from which the next ones go into another segment
HEADER = 512  # bytes, padded with spaces, so that it can be written last


class Entry(NamedTuple):
    """A segment as the table lists it. dead: rows of deleted samples."""

    id: int
    modality: str
    rows: int
    dead: int
    bytes: int
    sha256: str


class Mapped(NamedTuple):
    """The rows of a segment: values (n, D), norm (n,), sample (n,) in ascending order."""

    values: Tensor
    norm: Tensor
    sample: Tensor


def list_segments(connection: sqlite3.Connection) -> list[Entry]:
    """Return the segments of an index, in the order in which they were written."""
    sql = "SELECT s.id, name, rows, dead, bytes, sha256 FROM segments s JOIN modalities m ON m.id = modality"
    return [Entry(*row) for row in connection.execute(f"{sql} ORDER BY s.id")]


def path_of(folder: Path, segment: int) -> Path:
    """Return the file of a segment."""
    return folder / FOLDER / f"{segment:08d}.safetensors"


class Writer:
    """The writer of one segment. The file is complete and on the disk after ``close``.

    Args:
        path: its file, which must not exist. dim: D. half: values are stored as float16.
    """

    def __init__(self, path: Path, dim: int, *, half: bool = False):
        self.path, self.dim = path, dim
        self.kind, self.type = ("F16", torch.float16) if half else ("F32", torch.float32)
        self.rows = 0
        self._norms: list[Tensor] = []
        self._samples: list[Tensor] = []
        self._file: IO[bytes] = open(path, "xb")  # noqa: SIM115 (closed by `close` or `discard`)
        self._file.write(b" " * HEADER)

    @property
    def last(self) -> int:
        """The largest sample so far, or -1."""
        return int(self._samples[-1][-1]) if self._samples else -1

    def write(self, values: Tensor, sample: Tensor) -> None:
        """Append rows. values: (n, D), of any length. sample: (n,) ascending, none below ``last``."""
        values = values.detach().float().cpu()
        self.append(Mapped(F.normalize(values, dim=1), values.norm(dim=1), sample))

    def append(self, rows: Mapped) -> None:
        """Append rows that are unit vectors already."""
        self._file.write(rows.values.to(self.type).contiguous().numpy().data)
        self._norms.append(rows.norm.clone())
        self._samples.append(rows.sample.clone())
        self.rows += len(rows.sample)

    def close(self) -> tuple[int, str]:
        """Finish the file, and return its bytes and its SHA-256."""
        self._file.write(b"\0" * self._padding)
        self._file.write(torch.cat(self._samples).numpy().data)
        self._file.write(torch.cat(self._norms).numpy().data)
        self._file.seek(0)
        self._file.write(self._header())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        with open(self.path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return self.path.stat().st_size, digest

    def discard(self) -> None:
        """Remove the unfinished file."""
        with suppress(OSError):  # a full disk refuses the last bytes again
            self._file.close()
        self.path.unlink(missing_ok=True)

    @property
    def _padding(self) -> int:
        """Bytes after the values, so that the samples are aligned."""
        return -(self.rows * self.dim * self.type.itemsize) % 8

    def _header(self) -> bytes:
        header, end = {}, 0
        for name, kind, shape, size in (
            ("values", self.kind, [self.rows, self.dim], self.type.itemsize),
            *([("padding", "U8", [self._padding], 1)] if self._padding else []),
            ("sample", "I64", [self.rows], 8),
            ("norm", "F32", [self.rows], 4),
        ):
            start, end = end, end + size * torch.Size(shape).numel()
            header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        return (HEADER - 8).to_bytes(8, "little") + text.ljust(HEADER - 8)


def map_segment(folder: Path, entry: Entry, dim: int, *, verify: bool = True) -> Mapped:
    """Map a segment. Its pages are read when they are used, and belong to no process.

    verify: compare its SHA-256 first, which reads the file (1 GB/s).

    Raises FileNotFoundError where it is gone, ValueError where it is damaged.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load

    path = path_of(folder, entry.id)
    size = path.stat().st_size
    if size != entry.bytes:
        raise ValueError(f"{path} is damaged: it has {size} bytes, not {entry.bytes}; make the index anew")
    if verify:
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != entry.sha256:
                raise ValueError(f"{path} is damaged: its SHA-256 is not the index's; make the index anew")
    try:
        if is_text(str(path)):
            with safe_open(os.fspath(path), "pt") as file:
                rows = Mapped(*(file.get_tensor(name) for name in Mapped._fields))
        else:  # safetensors maps paths in UTF-8 alone
            stored = load(path.read_bytes())
            rows = Mapped(*(stored[name] for name in Mapped._fields))
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}; make the index anew") from None
    if rows.values.shape != (entry.rows, dim) or rows.sample.shape != (entry.rows,):
        raise ValueError(f"{path} is damaged: it has rows {tuple(rows.values.shape)}, not {(entry.rows, dim)}")
    return rows
