"""Boxes of an AVIF and the AV1 sequence headers inside: frame sizes before decoding, and missing bytes.

ISO/IEC 14496-12 (boxes, item locations, sample tables) and the AV1 specification, sections 5.3 and 5.5. Pillow reports
the size in a box of the container. The decoder allocates the size in the AV1 stream. Both have to be checked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from align.media.pictures.tiff import Cut

BRANDS = (b"avif", b"avis")
SEQUENCE_HEADER = 1
MOST_UNITS = 10_000  # in a picture, of which encoders write about five
INSIDE = {b"moov", b"trak", b"mdia", b"minf", b"stbl"}


def begins(head: bytes) -> bool:
    """Return True for the first bytes of an AVIF, named as the file's brand or among its compatible brands."""
    if head[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return any(head[at : at + 4] in BRANDS for at in (8, *range(16, end - 3, 4)))


def largest_frame(file: BinaryIO) -> tuple[int, int]:
    """Return (width, height) of the largest frame that any AV1 stream of the file announces, or (0, 0) without one.

    Raises Cut for a file that ends before its boxes do.
    """
    file.seek(0)
    data = memoryview(file.read())
    found = (0, 0)
    for start, end in _streams(data):
        if end > len(data):
            raise Cut
        for kind, body in _units(data[start:end]):
            if kind == SEQUENCE_HEADER:
                found = max(found, _frame(body), key=lambda size: size[0] * size[1])
    return found


def _boxes(data: memoryview, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, begin of the body, end) of each box. Raises Cut for a box that ends behind ``end``."""
    while start + 8 <= end:
        size, kind = struct.unpack(">I4s", data[start : start + 8])
        body = start + 8
        if size == 1:
            (size,) = struct.unpack(">Q", data[body : body + 8])
            body += 8
        stop = end if size == 0 else start + size
        if stop < body or stop > end:
            raise Cut
        yield kind, body, stop
        start = stop


def _streams(data: memoryview) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of the AV1 stream of each item that is a picture, and of the first picture of each track."""
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind == b"meta":
            yield from _items(data, start + 4, end)
        elif kind == b"moov":
            yield from _tracks(data, start, end)


def _items(data: memoryview, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of each item of type ``av01`` in a ``meta`` box."""
    boxes = {kind: (body, stop) for kind, body, stop in _boxes(data, start, end)}
    if b"iloc" not in boxes or b"iinf" not in boxes:
        return
    body, stop = boxes[b"iinf"]
    pictures = set()
    for kind, at, _ in _boxes(data, body + (6 if data[body] == 0 else 8), stop):
        if kind == b"infe" and data[at] >= 2:
            wide = 4 if data[at] > 2 else 2
            if data[at + 6 + wide : at + 10 + wide] == b"av01":
                pictures.add(_number(data, at + 4, wide))
    inside = boxes.get(b"idat", (0, 0))[0]
    for item, method, at, length in _places(data, *boxes[b"iloc"]):
        if item in pictures:
            at += inside if method == 1 else 0
            yield at, at + length if length else len(data)


def _places(data: memoryview, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (item, construction method, begin, length) of each part of each item in an ``iloc`` box."""
    version, sizes, more = data[at], data[at + 4], data[at + 5]
    wide = 4 if version == 2 else 2
    for_place, for_length, for_base, for_index = sizes >> 4, sizes & 15, more >> 4, more & 15 if version else 0
    count = _number(data, at + 6, wide)
    at += 6 + wide
    for _ in range(count):
        item, method = _number(data, at, wide), 0
        at += wide
        if version:
            method = data[at + 1] & 15
            at += 2
        base = _number(data, at + 2, for_base)
        parts = _number(data, at + 2 + for_base, 2)
        at += 4 + for_base
        for _ in range(parts):
            at += for_index
            place = base + _number(data, at, for_place)
            length = _number(data, at + for_place, for_length)
            at += for_place + for_length
            if at > end:
                raise Cut
            yield item, method, place, length


def _tracks(data: memoryview, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of the first sample of each track in a ``moov`` box."""
    place = length = 0
    for kind, body, stop in _boxes(data, start, end):
        if kind in INSIDE:
            yield from _tracks(data, body, stop)
        elif kind in (b"stco", b"co64"):
            place = _number(data, body + 8, 4 if kind == b"stco" else 8)
        elif kind == b"stsz":
            length = _number(data, body + 4, 4) or _number(data, body + 12, 4)
    if place:
        yield place, place + length


def _number(data: memoryview, at: int, width: int) -> int:
    """Return the big-endian number of ``width`` bytes at ``at``. Raises Cut where they are missing."""
    if at + width > len(data):
        raise Cut
    return int.from_bytes(data[at : at + width], "big")


def _units(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield (type, content) of the units of an AV1 stream (section 5.3)."""
    at = 0
    for _ in range(MOST_UNITS):
        if at >= len(data):
            return
        head = data[at]
        at += 2 if head & 4 else 1
        size = len(data) - at
        if head & 2:  # the length follows, seven bits a byte
            size = shift = 0
            while True:
                byte = data[at]
                size |= (byte & 127) << shift
                at, shift = at + 1, shift + 7
                if byte < 128 or shift > 56:
                    break
        yield head >> 3 & 15, data[at : at + size]
        at += size
    raise ValueError(f"an AVIF with more than {MOST_UNITS} units in a picture")


class _Bits:
    """Bits of a header, read in order: ``bits(n)`` returns the next n as a number. Raises Cut at the end."""

    def __init__(self, data: memoryview):
        self.data, self.left = int.from_bytes(data, "big"), 8 * len(data)

    def __call__(self, n: int) -> int:
        self.left -= n
        if self.left < 0:
            raise Cut
        return self.data >> self.left & ((1 << n) - 1)


def _frame(body: memoryview) -> tuple[int, int]:
    """Return the largest (width, height) that a sequence header allows for its frames (section 5.5.1)."""
    bits = _Bits(body[:128])
    bits(4)
    reduced = bits(1)
    if reduced:
        bits(5)
    else:
        _skip_operating_points(bits)
    across, down = bits(4) + 1, bits(4) + 1
    sides = bits(across) + 1, bits(down) + 1
    if reduced:
        return sides
    # A frame's header may state another size in the same bits. Spare bits count as used: the frame may be that large.
    found = [
        side if max(1, (side - 1).bit_length()) >= n else 1 << n for side, n in zip(sides, (across, down), strict=True)
    ]
    return found[0], found[1]


def _skip_operating_points(bits: _Bits) -> None:
    """Skip the timing, the decoder model and the operating points of a sequence header (section 5.5.1)."""
    delay = 0
    if bits(1):  # timing
        bits(64)
        if bits(1):
            zeros = 0
            while not bits(1):
                zeros += 1
            bits(zeros)
        if bits(1):  # decoder model
            delay = bits(5) + 1
            bits(42)
    display = bits(1)
    for _ in range(bits(5) + 1):
        bits(12)
        if bits(5) > 7:
            bits(1)
        if delay and bits(1):
            bits(2 * delay + 1)
        if display and bits(1):
            bits(4)
