"""Length of a FLAC whose header states none: encoders that write to a pipe leave 0 samples there (RFC 9639).

The header of each frame names the samples in it. The last whole frame gives the length.
"""

from __future__ import annotations

from functools import cache
from typing import BinaryIO

SEARCH = 1 << 20  # bytes at the end that are searched for the last frame: a large frame has 150,000
BEHIND = 16  # bytes of the next frame that may stand behind the last whole one: less than a header
TRIES = 4  # headers at the end, one of which begins a whole frame


def total_samples(info: bytes) -> int:
    """Return the number of samples that the first 42 bytes of a FLAC state, 0 if they state none."""
    return (info[21] & 0xF) << 32 | int.from_bytes(info[22:26], "big")


def with_total(info: bytes, samples: int) -> bytes:
    """Return the five bytes from byte 21 on, which hold the number of samples, with another number."""
    return bytes([info[21] & 0xF0 | samples >> 32]) + (samples & 0xFFFFFFFF).to_bytes(4, "big")


def count_samples(file: BinaryIO, start: int, size: int) -> int:
    """Return the samples of a FLAC, which begins at byte ``start``, up to the end of its last whole frame, or 0."""
    file.seek(start)
    info = file.read(42)
    file.seek(max(start, size - 128))
    end = size - 128 if file.read(3) == b"TAG" else size  # an ID3v1 tag
    begin = max(start + 42, end - SEARCH)
    file.seek(begin)
    block = file.read(end - begin)
    seen: list[int] = []
    i = block.rfind(b"\xff")
    while i >= 0 and len(seen) < TRIES:
        frame = _frame(block[i : i + 16], info)
        if frame is not None and _is_whole(block[i:]):
            return sum(frame)
        seen += [] if frame is None else [frame[0]]
        i = block.rfind(b"\xff", 0, i)
    return max(seen, default=0)  # the last frame is cut, so the samples end before it


def _is_whole(data: bytes) -> bool:
    """Return True if a frame ends with these bytes or a little before: the checksum over all of it is 0 there."""
    table = _table(16, 0x8005)
    crc = 0
    for byte in data[:-BEHIND]:
        crc = crc << 8 & 0xFFFF ^ table[crc >> 8 ^ byte]
    ends = crc == 0
    for byte in data[-BEHIND:]:
        crc = crc << 8 & 0xFFFF ^ table[crc >> 8 ^ byte]
        ends = ends or crc == 0
    return ends


def _frame(head: bytes, info: bytes) -> tuple[int, int] | None:
    """Return (first sample, number of samples) of a frame by its header (RFC 9639, section 9.1), or None."""
    if len(head) < 6 or head[1] & 0xFE != 0xF8 or head[3] & 1:
        return None
    code, at = _number(head)
    size, rate, channels = head[2] >> 4, head[2] & 15, head[3] >> 4
    if code is None or size == 0 or rate == 15 or channels > 10:
        return None
    if (1 if channels > 7 else channels) != (info[20] >> 1 & 7):
        return None
    samples = 192 if size == 1 else 576 << size - 2 if size < 6 else 256 << size - 8 if size > 7 else 0
    if size in (6, 7):
        samples = int.from_bytes(head[at : at + size - 5], "big") + 1
        at += size - 5
    at += (0, 1, 2, 2)[max(0, rate - 11)]
    if at >= len(head) or _crc8(head[:at]) != head[at]:
        return None
    fixed = int.from_bytes(info[8:10], "big")  # samples of every frame but the last
    return (code if head[1] & 1 else code * fixed), samples


def _number(head: bytes) -> tuple[int | None, int]:
    """Return (number of the frame or of its first sample, next byte). It is coded as UTF-8 codes characters."""
    lead = head[4]
    more = 0 if lead < 0x80 else 8 - (lead ^ 0xFF).bit_length() - 1
    rest = head[5 : 5 + more]
    if 0x80 <= lead < 0xC0 or lead == 0xFF or len(rest) < more or any(b & 0xC0 != 0x80 for b in rest):
        return None, 0
    value = lead if more == 0 else lead & (0x3F >> more)
    for byte in rest:
        value = value << 6 | byte & 0x3F
    return value, 5 + more


def _crc8(data: bytes) -> int:
    crc, table = 0, _table(8, 0x07)
    for byte in data:
        crc = table[crc ^ byte]
    return crc


@cache
def _table(bits: int, polynomial: int) -> list[int]:
    """Return the change of a checksum by each byte, highest bit first (RFC 9639, sections 9.1.8 and 9.3)."""
    top, table = 1 << bits - 1, []
    for byte in range(256):
        crc = byte << bits - 8
        for _ in range(8):
            crc = crc << 1 ^ (polynomial if crc & top else 0)
            crc &= 2 * top - 1
        table.append(crc)
    return table
