"""Read .npy without trust: no pickles, and the header is checked before any memory is taken."""

from __future__ import annotations

import io
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from torch import Tensor

from align.media.reading import bad, open_source
from align.values import BadSample


def read_array(source: Any, kind: str, *, limit: int) -> np.ndarray:
    """Return an array from .npy bytes, a path, an ndarray or a tensor. Only encoded ones are checked (``read_npy``)."""
    if isinstance(source, np.ndarray):
        return source
    if isinstance(source, Tensor):
        return source.detach().cpu().numpy()
    if not isinstance(source, bytes | bytearray | memoryview | str | Path):
        given = type(source).__name__
        raise TypeError(f"{kind} can be read from .npy bytes, a path, an ndarray or a tensor, not from {given}")
    with open_source(source) as file:
        try:
            return read_npy(file, kind, limit=limit)
        except BadSample as error:
            raise bad(error.reason, source, error.detail) from None


def read_npy(file: BinaryIO, kind: str, *, limit: int) -> np.ndarray:
    """Read the numeric array of a .npy file or member, C or Fortran order, versions 1 and 2 of the format.

    kind: the first half of a reason, "points" in points/not-npy. limit: numbers at most.
    Raises BadSample: KIND/empty, KIND/not-npy, KIND/dtype (objects, text, records), KIND/too-large, KIND/truncated.
    """
    size = file.seek(0, 2)
    file.seek(0)
    if size == 0:
        raise BadSample(f"{kind}/empty", "no bytes")
    try:
        shape, fortran, dtype = header(file)
    except Exception as error:  # a header is a Python literal: the errors of damaged ones have no common class
        raise BadSample(
            f"{kind}/not-npy", f"no .npy header ({str(error).splitlines()[0] if str(error) else ''})"
        ) from None
    if dtype.hasobject or dtype.kind not in "fiub":
        raise BadSample(f"{kind}/dtype", f"{dtype} is not numeric")
    if any(n < 0 for n in shape):
        raise BadSample(f"{kind}/not-npy", f"the header says shape {shape}")
    count = prod(shape)
    if count > limit:
        raise BadSample(f"{kind}/too-large", f"shape {shape}, at most {limit} numbers are read")
    data = file.read(count * dtype.itemsize)
    if len(data) < count * dtype.itemsize:
        raise BadSample(
            f"{kind}/truncated", f"shape {shape} of {dtype} needs {count * dtype.itemsize} bytes, {len(data)} are there"
        )
    try:
        return np.frombuffer(data, dtype, count).reshape(shape, order="F" if fortran else "C")
    except (ValueError, TypeError) as error:  # too many dimensions, or one that is no number: (True, 3)
        raise BadSample(f"{kind}/not-npy", f"the header says shape {shape} ({error})") from None


def header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read (shape, Fortran order, dtype) of a .npy, up to its numbers. Raises the errors of numpy's reader."""
    start = file.read(10)
    if start[6:] == b"\x01\x00" + start[8:]:  # version 1: the header's length follows, in two bytes
        return parse_cached(start + file.read(int.from_bytes(start[8:], "little")))
    file.seek(0)
    return parse(file)


def parse(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Parse a header by numpy's reader."""
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    return read[version](file)


@lru_cache(64)
def parse_cached(start: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Parse a header, once for members whose headers are alike: numpy's reader compiles Python, 30 µs."""
    return parse(io.BytesIO(start))


def save_npy(array: np.ndarray) -> bytes:
    """Return an array as .npy bytes."""
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()
