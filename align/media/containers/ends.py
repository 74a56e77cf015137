"""Ends of containers: where a file should end by its own sizes, so that a cut is seen before a frame is decoded."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from align.media.containers.kinds import ADTS, AVI, MATROSKA, MP4, Kind, tag_bytes

PARTS = 100_000  # at most, because a hostile file can hold millions of empty ones
FRAMES = 4_000_000  # of AAC, more than a day
SEGMENT, CLUSTER = 0x18538067, 0x1F43B675  # element ids of Matroska
NAMES = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 -_\xa9"


class Extent(NamedTuple):
    """Bytes of a file. stated: its end by its own sizes, None where they leave it open. lacks: a part that is gone."""

    size: int
    stated: int | None
    lacks: str = ""

    @property
    def was_cut(self) -> bool:
        return bool(self.lacks) or (self.stated is not None and self.stated > self.size)


def extent(file: BinaryIO, kind: Kind) -> Extent:
    """Return where a container's file ends, and where it should."""
    size = file.seek(0, 2)
    return WALKS[kind](file, size)


def _walk_boxes(file: BinaryIO, size: int) -> Extent:
    """Walk the boxes of an MP4 (ISO/IEC 14496-12, section 4.2). Without ``moov`` no frame can be found."""
    at, has_index, is_whole = 0, False, True
    for _ in range(PARTS):
        if at + 8 > size:
            break
        file.seek(at)
        head = file.read(16)
        length, name = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if any(byte not in NAMES for byte in name):
            break  # bytes behind the last box, which players skip
        has_index |= name in (b"moov", b"moof")
        if length == 0:  # until the end of the file
            at = size
            break
        if length < 8:
            break
        at += length
        is_whole = at <= size
    if not has_index:
        return Extent(size, max(at, size), "its index (the box moov)")
    return Extent(size, max(at, size) if is_whole else at)


def _walk_elements(file: BinaryIO, size: int) -> Extent:
    """Walk the elements of a Matroska file (RFC 8794, section 4). A live stream leaves its sizes open."""
    at, stated = 0, size
    for _ in range(PARTS):
        file.seek(at)
        head = file.read(12)
        if len(head) < 2:
            break
        id_bytes = _leading(head[0])
        if not 1 <= id_bytes <= 4 or len(head) <= id_bytes:
            break
        width = _leading(head[id_bytes])
        if not 1 <= width <= 8 or len(head) < id_bytes + width:
            break
        number = int.from_bytes(head[id_bytes : id_bytes + width], "big") & ((1 << 7 * width) - 1)
        if number == (1 << 7 * width) - 1:
            return Extent(size, None)
        at += id_bytes + width + number
        stated = max(stated, at)
        if int.from_bytes(head[:id_bytes], "big") == SEGMENT:
            break  # all else lies inside
    return Extent(size, stated)


def _leading(byte: int) -> int:
    """Return the bytes of a number of EBML by its first one."""
    return 9 - byte.bit_length()


def _walk_chunks(file: BinaryIO, size: int) -> Extent:
    """Walk the RIFF chunks of an AVI, of which a long one has several. A size of 0 was never filled in."""
    at = 0
    for _ in range(PARTS):
        file.seek(at)
        head = file.read(12)
        if len(head) < 12 or head[:4] != b"RIFF":
            break
        length = int.from_bytes(head[4:8], "little")
        if length < 4 or length >= 0xFFFFFFF0:
            return Extent(size, None)
        at += 8 + length + length % 2
    return Extent(size, at if at > size + 1 else size)


def _walk_frames(file: BinaryIO, size: int) -> Extent:
    """Walk the frames of an AAC file (ISO/IEC 13818-7, section 6.2). It states no length: the last frame is whole."""
    file.seek(0)
    at = tag_bytes(file.read(10))
    for _ in range(FRAMES):
        if at + 7 > size:
            break
        file.seek(at)
        head = file.read(7)
        if head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
            break  # a tag behind the last frame
        length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        if length < 7:
            break
        at += length
    return Extent(size, at if at > size else None)


WALKS: dict[Kind, Callable[[BinaryIO, int], Extent]] = {
    MP4: _walk_boxes,
    MATROSKA: _walk_elements,
    AVI: _walk_chunks,
    ADTS: _walk_frames,
}
