"""Entries of an MP4's index, counted before FFmpeg opens the file: a few bytes can state hundreds of millions.

FFmpeg keeps 60 to 100 bytes of each sample. A table of samples of one size, a run of a piece and an edit list state
their number without holding them, so a file of 60 KB could ask for 10 GB.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO

import numpy as np

MOST = 10_000_000  # entries: a day of 60 frames and 47 packets of sound a second
FEW = 100_000  # entries of any file. Else a sample has at least a byte
BOXES = 500_000  # of one file: a day in pieces of a second has 173,000 on its first level and 5 in each piece's
DEPTH = 12
INFLATED = 1 << 26  # bytes of a compressed index
SOUND_RUN = 1024  # samples of PCM that FFmpeg makes one entry of
TABLES = frozenset((b"stsz", b"stz2", b"stsc", b"stco", b"co64", b"stts", b"elst", b"trun", b"hdlr"))
PARENTS = frozenset(
    b"moov trak mdia minf stbl edts mvex moof traf udta dinf tref wave sinf schi ipro iprp gmhd avss".split()
)
"""Boxes that FFmpeg looks for others in."""


class Track:
    """Numbers of one track: samples, edits, and those that tell how FFmpeg counts a track of plain samples."""

    def __init__(self):
        self.samples, self.edits, self.times, self.tick = 0, 0, 0, 0
        self.steps: np.ndarray | None = None
        self.chunks, self.is_sound = 0, False

    @property
    def entries(self) -> int:
        """Return the entries of the index: one a sample, or one a run of PCM, and again in each edit."""
        samples = self.samples
        if self.is_sound and (self.times, self.tick) == (1, 1):
            samples = self._runs()
        return samples * max(1, self.edits)

    def _runs(self) -> int:
        if self.steps is None or not len(self.steps):
            return self.chunks
        first = self.steps["first"].astype(np.float64)
        spans = np.diff(np.append(first, self.chunks + 1)).clip(min=0)
        return self.chunks + int((spans * (self.steps["count"] / SOUND_RUN)).sum())


def check_entries(file: BinaryIO, size: int) -> int:
    """Return the most entries that a file of ``size`` bytes may have where its index states more, else 0."""
    most = min(MOST, max(FEW, size))
    return most if count_entries(file, size) > most else 0


def count_entries(file: BinaryIO, size: int) -> int:
    """Return the entries that an MP4's index states, ``MOST + 1`` or more for one of too many boxes."""
    left, tracks, runs = [BOXES], [Track()], 0
    for name, at, end, source in _walk(file, 0, size, left, 0):
        if name == b"trak":
            tracks.append(Track())
        elif name == b"trun":
            runs += _number(source, at + 4, 4)
        elif name in TABLES:
            _read(tracks[-1], name, source, at, end)
    if left[0] <= 0:
        return MOST + 1
    return runs + sum(track.entries for track in tracks)


def _read(track: Track, name: bytes, file: BinaryIO, at: int, end: int) -> None:
    """Add one table to its track."""
    if name in (b"stsz", b"stz2"):
        track.samples += _number(file, at + 8, 4)
    elif name == b"elst":
        track.edits += _number(file, at + 4, 4)
    elif name in (b"stco", b"co64"):
        track.chunks += _number(file, at + 4, 4)
    elif name == b"hdlr":
        track.is_sound |= file.seek(at + 8) >= 0 and file.read(4) == b"soun"
    elif name == b"stts":
        track.times, track.tick = _number(file, at + 4, 4), _number(file, at + 12, 4)
    elif name == b"stsc":
        count = min(_number(file, at + 4, 4), max(0, end - at - 8) // 12)
        file.seek(at + 8)
        found = np.frombuffer(file.read(12 * count), [("first", ">u4"), ("count", ">u4"), ("id", ">u4")])
        track.steps = found


def _walk(file: BinaryIO, at: int, end: int, left: list[int], depth: int) -> Iterator[tuple[bytes, int, int, BinaryIO]]:
    """Yield (name, begin and end of its content, file) of each box, parents before what they hold."""
    while at + 8 <= end and depth < DEPTH:
        left[0] -= 1
        if left[0] <= 0:
            return
        file.seek(at)
        head = file.read(16)
        length, name, begin = int.from_bytes(head[:4], "big"), head[4:8], at + 8
        if length == 1:
            length, begin = int.from_bytes(head[8:16], "big"), at + 16
        stop = end if length == 0 else min(end, at + length)
        if stop < begin:
            return
        if name in TABLES or name == b"trak":
            yield name, begin, stop, file
        if name in PARENTS:
            yield from _walk(file, begin, stop, left, depth + 1)
        elif name == b"cmov":
            inner = BytesIO(_inflate(file, begin, stop))
            yield from _walk(inner, 0, inner.seek(0, 2), left, depth + 1)
        at = stop


def _inflate(file: BinaryIO, at: int, end: int) -> bytes:
    """Return the compressed index of an old QuickTime file (``cmov``), or nothing."""
    file.seek(at)
    data = file.read(min(end - at, INFLATED))
    place = data.find(b"cmvd")
    if place < 0:
        return b""
    try:
        return zlib.decompressobj().decompress(data[place + 8 :], INFLATED)
    except zlib.error:
        return b""


def _number(file: BinaryIO, at: int, width: int) -> int:
    file.seek(at)
    return int.from_bytes(file.read(width), "big")
