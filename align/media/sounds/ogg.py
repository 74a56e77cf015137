"""Pages of an Ogg file (RFC 3533), read one by one to find damaged pages and a second stream.

libsndfile skips a damaged first page of sound and takes the stream for a shorter one. Of two it reads the first.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

HEADER = 27  # bytes before the table of segments
MOST = 1 << 19  # pages that are read: three hours of 20 ms each
FIRST, LAST = 2, 4  # flags: the page begins, or ends, its stream
NOWHERE = (0, 2**64 - 1)  # positions of pages that hold no sound, or end no packet
_mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class Page(NamedTuple):
    """Page of an Ogg file: place, flags, samples of the stream up to the page's end, and number of the stream."""

    start: int
    end: int
    flags: int
    position: int
    stream: bytes


def pages(file: BinaryIO, at: int) -> Iterator[Page]:
    """Yield the pages from byte ``at`` on, up to the first bytes that are no page, MOST at most."""
    for _ in range(MOST):
        file.seek(at)
        head = file.read(HEADER + 255)
        if len(head) < HEADER or head[:4] != b"OggS":
            return
        end = at + HEADER + head[26] + sum(head[HEADER : HEADER + head[26]])
        yield Page(at, end, head[5], int.from_bytes(head[6:14], "little"), head[14:18])
        at = end


def is_whole(file: BinaryIO, page: Page) -> bool:
    """Return True if a page's bytes have the checksum that the page states."""
    file.seek(page.start)
    data = file.read(page.end - page.start)
    return checksum(data[:22] + bytes(4) + data[26:]) == int.from_bytes(data[22:26], "little")


def checksum(data: bytes | bytearray) -> int:
    """Return Ogg's CRC-32 of a page whose four bytes of checksum are 0.

    Polynomial 04C11DB7, highest bit first, from zero and not inverted. zlib's takes the lowest bit first, and inverts
    before and after.
    """
    crc = zlib.crc32(data.translate(_mirrored), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2)


def with_serial(data: bytes, serial: int) -> bytes:
    """An Ogg file of one stream with another serial number: bytes 14 to 17 of every page, and its checksum, 22 to 25.

    RFC 3533, section 6. Raises ValueError for bytes that are no whole pages.
    """
    out = bytearray(data)
    at = 0
    while at < len(out):
        count = out[at + 26] if out[at : at + 4] == b"OggS" and at + 27 <= len(out) else -1
        end = at + 27 + count + sum(out[at + 27 : at + 27 + count])
        if count < 0 or end > len(out):
            raise ValueError(f"no Ogg page at byte {at} of {len(out)}")
        out[at + 14 : at + 18] = serial.to_bytes(4, "little")
        out[at + 22 : at + 26] = bytes(4)  # the checksum is taken with itself as zero
        out[at + 22 : at + 26] = checksum(out[at:end]).to_bytes(4, "little")
        at = end
    return bytes(out)
