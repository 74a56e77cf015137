"""Kinds of container by a file's first bytes. FFmpeg opens these alone, never a playlist, a script or a picture."""

from __future__ import annotations

from typing import NamedTuple

HEAD = 1024  # bytes that tell the kind
BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")  # a file of QuickTime begins with one of them
STILLS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"crx ")
"""Brands of pictures in MP4's boxes: AVIF, HEIC and raw photographs."""


class Kind(NamedTuple):
    """Container. demuxer: FFmpeg's name of its reader. name: for messages."""

    demuxer: str
    name: str


MP4 = Kind("mov", "MP4 or QuickTime")
MATROSKA = Kind("matroska", "Matroska or WebM")
AVI = Kind("avi", "AVI")
ADTS = Kind("aac", "AAC")


def kind_of(head: bytes) -> Kind | None:
    """Return the kind of a container by the first ``HEAD`` bytes of its file, or None."""
    if head[4:8] in BOXES:
        return None if head[4:8] == b"ftyp" and head[8:12] in STILLS else MP4
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return MATROSKA
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return AVI
    start = tag_bytes(head)
    if len(head) > start + 1 and head[start] == 0xFF and head[start + 1] & 0xF6 == 0xF0:
        return ADTS
    return None


def tag_bytes(head: bytes) -> int:
    """Return the bytes of an ID3 tag at a file's start, or 0."""
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
