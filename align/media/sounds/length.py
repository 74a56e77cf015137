"""Length of an encoded sound, from a header that states it or from the file itself, never from a guess.

libsndfile guesses the length of an MP3 that states none, takes a streamed FLAC for endless and a streamed WAV for
empty, and returns the rest of a file that was cut. Each of these is found here before the first sample is read.
"""

from __future__ import annotations

from typing import Any, BinaryIO, NamedTuple

from align.media.reading import bad
from align.media.sounds import mpeg, ogg
from align.media.sounds.containers import LAYOUTS, find_samples, runs_over
from align.media.sounds.flac import count_samples, total_samples, with_total
from align.media.sounds.formats import advice, foreign
from align.media.sounds.joined import Joined
from align.values import BadSample

HEAD = 1024  # bytes: the largest header in one piece is NIST's
UNCOUNTED = (b"PVF1", b" paf", b"fap ", b"\x64\xa3", b"\0\0\xa3\x64", b"\0\1\xa3\x64", b"\0\2\xa3\x64")
"""Formats that have no place for a length: PVF, PAF and IRCAM."""


class Length(NamedTuple):
    """Length of a sound, and the file that libsndfile opens for it.

    frames: their number, if libsndfile would guess it, else None. stated: True if a header states the length. Without
    that a cut cannot be seen.
    """

    file: BinaryIO | Joined
    frames: int | None = None
    stated: bool = True


def find_length(file: BinaryIO, most: float, source: Any) -> Length:
    """Return the length of a sound. Its file has a mended header, if the original states no length.

    most: seconds after which counting stops. Raises BadSample: audio/empty, truncated, no-length, format, corrupt.
    """
    start, head, size = _begin(file)
    if size == 0:
        raise bad("audio/empty", source, "no bytes")
    if start and head[:4] in LAYOUTS:
        return Length(file)
    if head[:4] == b"fLaC" and len(head) >= 42:
        return _flac(file, start, head, size, source)
    if head[:4] == b"OggS":
        return _ogg(file, head, start, size, source)
    if mpeg.parse(head[:4]) is not None:
        return _mpeg(file, start, size, most, source)
    found = find_samples(file, head, size)
    if found is None:
        if foreign(head) is not None:
            return Length(file)
        if over := runs_over(file, head, size):
            raise cut(source, size, over, "bytes")
        if head[:4] in LAYOUTS or head.startswith(UNCOUNTED):
            return Length(file, stated=not head.startswith(UNCOUNTED))
        return _mpeg(file, start, size, most, source)
    samples, layout = found
    is_open = samples.is_open(size, layout, file)
    end = size if is_open else samples.end
    if end > size + (0 if layout is None else layout.slack):
        raise cut(source, max(0, size - samples.start), samples.length, "bytes")
    if layout is not None and mpeg.find_frame(file, samples.start, end, 0) is not None:  # an MP3 inside a .wav
        inside = _mpeg(file, samples.start, min(end, size), most, source)
        whole = Joined(file, [(samples.start, min(end, size))])
        return Length(whole if inside.file is file else inside.file, inside.frames, not is_open)
    if not is_open:
        return Length(file)
    parts = [(0, samples.field), samples.patch(size), (samples.field + samples.width, size)]
    return Length(Joined(file, parts), stated=False)


def explain_failure(file: BinaryIO, given: Length, detail: str, source: Any) -> BadSample:
    """Return the reason why libsndfile could not open or read a file. detail: its message."""
    start, head, size = _begin(file)
    name = foreign(head)
    if name is not None:
        return bad("audio/format", source, advice(name))
    if given.file is not file and not given.stated:
        return bad("audio/no-length", source, f"no header states the length, and reading to the end failed: {detail}")
    if head[:4] == b"fLaC" and len(head) >= 42:
        there, total = count_samples(file, start, size), total_samples(head)
        if there < total:
            return cut(source, there, total, "samples")
    elif (stream := mpeg.survey(file, start, size, float("inf"))) and stream.frames < stream.stated:
        return cut(source, stream.frames, stream.stated, "frames")
    return bad("audio/unreadable", source, f"{detail}; it starts with {head[:12]!r}")


def cut(source: Any, there: int, stated: int, unit: str) -> BadSample:
    """Return the reason audio/truncated, always in the same words."""
    return bad("audio/truncated", source, f"{there} of {stated} {unit} are there")


def _begin(file: BinaryIO) -> tuple[int, bytes, int]:
    """Return (first byte behind an ID3 tag, HEAD bytes from there, size of the file)."""
    file.seek(0)
    start, head = 0, file.read(HEAD)
    if head[:3] == b"ID3":
        start = mpeg.skip_tags(file)
        file.seek(start)
        head = file.read(HEAD)
    return start, head, file.seek(0, 2)


def _flac(file: BinaryIO, start: int, head: bytes, size: int, source: Any) -> Length:
    """Return the length of a FLAC, counted if its header states none."""
    if total_samples(head):
        return Length(file)
    total = count_samples(file, start, size)
    if total == 0:
        raise bad("audio/no-length", source, "a FLAC whose header states no length, and no frame was found in it")
    parts = [(0, start + 21), with_total(head, total), (start + 26, size)]
    return Length(Joined(file, parts), stated=False)


def _mpeg(file: BinaryIO, start: int, size: int, most: float, source: Any) -> Length:
    """Return the length of an MP3. A file without frames is left to libsndfile, which names it."""
    file.seek(start)
    head = file.read(4)
    stated = mpeg.states_length(file, start, size)
    if stated:
        return Length(file)
    stream = None if stated is None else mpeg.survey(file, start, size, most)
    if stream is None:
        return Length(file, stated=mpeg.parse(head) is None)
    if stream.gap is not None:
        detail = f"no header states how many frames there are, and at byte {stream.gap} there is none"
        raise bad("audio/no-length", source, detail)
    if stream.stated > stream.frames + 1 and stream.samples <= most * stream.rate:
        raise cut(source, stream.frames, stream.stated, "frames")
    # libsndfile guesses bytes / bytes of the first frame and reads no further. The zeros keep its guess high enough.
    end = sum(end - begin for begin, end in stream.spans)
    zeros = max(0, (stream.frames + 2) * (stream.first + 1) - end)
    return Length(Joined(file, stream.spans, zeros), stream.samples, 0 < stream.stated >= stream.frames - 1)


def _ogg(file: BinaryIO, head: bytes, start: int, size: int, source: Any) -> Length:
    """Check that the pages of one stream follow each other up to its last one (RFC 3533, section 6)."""
    name = foreign(head)
    if name is not None:
        raise bad("audio/format", source, advice(name))
    first = last = None
    has_sound = False
    for page in ogg.pages(file, start):
        if page.end > size:
            break
        if has_sound and page.flags & ogg.FIRST:
            raise bad("audio/format", source, advice("Ogg with several streams"))
        begins = not has_sound and page.position not in ogg.NOWHERE
        has_sound = has_sound or begins
        # Without one of these pages libsndfile takes the stream for a shorter one. Without others it skips samples.
        if (begins or page.flags & ogg.LAST) and not ogg.is_whole(file, page):
            raise bad("audio/corrupt", source, f"the page at byte {page.start} is damaged")
        first, last = first or page, page
    if first is None or last is None or not last.flags & ogg.LAST:
        raise bad("audio/truncated", source, "an Ogg stream without its last page")
    if last.stream != first.stream:  # libsndfile would read the first alone
        raise bad("audio/format", source, advice("Ogg with several streams"))
    return Length(file)
