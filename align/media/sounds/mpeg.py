"""Frames of MPEG audio (.mp3), found and counted if no header states their number.

ISO/IEC 11172-3 and 13818-3, section 2.4.2.3: the first four bytes of a frame give its length in bytes and in samples. A
file of variable rate begins with a frame that holds the count instead of sound ("Xing", "Info" or "VBRI"). A stream
that was written to a pipe has none, and libsndfile guesses the length from the first frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import BinaryIO, NamedTuple

V1 = {
    1: (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}  # kbit/s of MPEG-1, by layer
V2 = {
    1: (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}  # of MPEG-2 and 2.5, whose layer III has the rates of II
RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}  # Hz, by version
SEARCH = 1 << 16  # bytes without a frame that are searched
CHAIN = 3  # frames in a row that other bytes hardly imitate
TAIL = 4096  # bytes behind the stated end: some encoders do not count the first frame


class Frame(NamedTuple):
    """Header of a frame. stream: version, layer, rate and channels, which all frames of a stream share."""

    stream: tuple[int, int, int, int]
    samples: int
    length: int  # bytes with the header, 0 for the free format, which does not state it
    tag: int  # byte of the frame where a count would stand


class Stream(NamedTuple):
    """Frames of a file. spans: (start, end) bytes, without tags and the frame of the count.

    first: bytes of the first frame. gap: byte where other data than a tag stand before the next frame. stated: number
    of frames by a count in the file, else 0.
    """

    spans: list[tuple[int, int]]
    frames: int
    samples: int
    rate: int
    first: int
    gap: int | None
    stated: int


def skip_tags(file: BinaryIO, at: int = 0) -> int:
    """Return the first byte behind the tags (ID3v2, ID3v1, APE) that stand at ``at``."""
    for _ in range(16):
        file.seek(at)
        head = file.read(32)
        if head[:3] == b"ID3" and len(head) >= 10 and not any(b & 0x80 for b in head[6:10]):
            size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
            at += 10 + size + (10 if head[5] & 0x10 else 0)
        elif head[:3] == b"TAG":
            at += 128
        elif head[:8] == b"APETAGEX" and len(head) == 32:
            header = int.from_bytes(head[20:24], "little") & 1 << 29  # set in the tag's header, not in its footer
            at += 32 + (int.from_bytes(head[12:16], "little") if header else 0)
        else:
            break
    return at


@lru_cache(maxsize=1024)
def parse(head: bytes) -> Frame | None:
    """Return the frame that begins with these four bytes, or None."""
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    speed, pace = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or speed == 15 or pace == 3:
        return None
    rate = RATES[version][pace]
    samples = 384 if layer == 1 else 1152 if layer == 2 or version == 3 else 576
    mono = head[3] >> 6 == 3
    tag = 4 + ((17 if mono else 32) if version == 3 else (9 if mono else 17))
    stream = (version, layer, rate, 1 if mono else 2)
    if speed == 0:
        return Frame(stream, samples, 0, tag)
    kbits = (V1[layer] if version == 3 else V2[min(layer, 2)])[speed - 1]
    slot = 4 if layer == 1 else 1
    length = (samples // 8 // slot * kbits * 1000 // rate + (head[2] >> 1 & 1)) * slot
    return Frame(stream, samples, length, tag)


def states_length(file: BinaryIO, start: int, size: int) -> bool | None:
    """Return True if the first frame from ``start`` on states the number of frames, in a form that libsndfile knows.

    Returns None without any frame. A count that ends before the file does, with more frames behind it, states nothing:
    several files were joined.
    """
    at = start if _read_count(file, start)[2] else find_frame(file, start, size)
    if at is None:
        return None
    count, length, known = _read_count(file, at)
    if not count or not known:
        return False
    end = at + length
    return length == 0 or size - end <= TAIL or find_frame(file, skip_tags(file, end), size, SEARCH) is None


def survey(file: BinaryIO, start: int, size: int, most: float) -> Stream | None:
    """Return the frames from byte ``start`` on, counted up to ``most`` seconds and to the first gap.

    Returns None without frames, or for the free format, whose frames do not state their length.
    """
    at = find_frame(file, start, size)
    first = None if at is None else _frame(file, at)
    if at is None or first is None or first.length == 0:
        return None
    stated, _, _ = _read_count(file, at)
    if stated is not None:
        at += first.length
        first = _frame(file, at) or first
    spans, frames, gap, limit = [(at, at)], 0, None, most * first.stream[2] / first.samples
    while frames <= limit:
        frame = _frame(file, at)
        if frame is not None and frame.stream == first.stream and frame.length:
            if at + frame.length > size:
                break  # the last frame is cut
            frames, at = frames + 1, at + frame.length
            spans[-1] = (spans[-1][0], at)
            continue
        after = skip_tags(file, at)
        found = find_frame(file, after, size)
        if found is None:
            break
        if found > after or (frame := _frame(file, found)) is None or frame.stream != first.stream:
            gap = at
            break
        spans.append((found, found))
        at = found
    if frames == 0 and not stated:
        return None
    return Stream(spans, frames, frames * first.samples, first.stream[2], first.length, gap, stated or 0)


def find_frame(file: BinaryIO, at: int, size: int, search: int = SEARCH) -> int | None:
    """Return the first byte from ``at`` on where a chain of frames begins.
    A chain that begins at ``at`` itself may be short, if it ends the file."""
    frame = _frame(file, at)
    if frame is not None and _is_chain(file, at, size, 1):
        return at
    file.seek(at)
    block = file.read(search + 4)
    i = block.find(b"\xff")
    while 0 <= i < search:
        frame = parse(block[i : i + 4])
        if frame is not None and _is_chain(file, at + i, size):
            return at + i
        i = block.find(b"\xff", i + 1)
    return None


def _is_chain(file: BinaryIO, at: int, size: int, least: int = CHAIN) -> bool:
    """Return True for CHAIN frames of one stream in a row, for ``least`` that end the file, or for one with a count."""
    first = frame = _frame(file, at)
    n = 0
    while frame is not None and first is not None and frame.stream == first.stream and n < CHAIN:
        if n == 0 and _read_count(file, at)[0] is not None:
            return True
        if frame.length == 0:
            return False
        n, at = n + 1, at + frame.length
        frame = _frame(file, at) if at < size else None
    return n == CHAIN or (n >= least and at >= size)


def _frame(file: BinaryIO, at: int) -> Frame | None:
    """Return the frame at byte ``at``, or None."""
    file.seek(at)
    return parse(file.read(4))


def _read_count(file: BinaryIO, at: int) -> tuple[int | None, int, bool]:
    """Return (frames, bytes, True if libsndfile knows the form) by the count in a first frame.
    frames is None for a plain frame."""
    file.seek(at)
    block = file.read(64)
    frame = parse(block)
    if frame is None or frame.stream[1] != 3:
        return None, 0, False
    if block[36:40] == b"VBRI":
        return int.from_bytes(block[50:54], "big"), int.from_bytes(block[46:50], "big"), False
    tag = block[frame.tag :]
    if tag[:4] not in (b"Xing", b"Info"):
        return None, 0, False
    flags, numbers = tag[7], _numbers(tag[8:16])
    frames = next(numbers) if flags & 1 else 0
    return frames, next(numbers) if flags & 2 else 0, True


def _numbers(data: bytes) -> Iterator[int]:
    """Yield the big-endian numbers of four bytes each."""
    for i in range(0, len(data), 4):
        yield int.from_bytes(data[i : i + 4], "big")
