"""Ogg files with the same bytes each time: their writers draw a random serial number for the stream."""

from __future__ import annotations

from align.media.sounds.ogg import checksum


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
