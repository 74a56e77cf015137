"""Sound of a container that libsndfile does not read (MP4, AAC, WebM, Matroska), through PyAV where that is installed.

Samples are those that the container says: without the encoder's delay before the first and the filling behind the last.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from align.media.containers.hearing import hear, require_sound, stated_seconds
from align.media.containers.kinds import ADTS, AVI, HEAD, MATROSKA, MP4, Kind, kind_of, tag_bytes
from align.media.containers.opening import Opened, has_package, open_container
from align.media.reading import bad
from align.media.sounds.formats import advice

SUFFIXES = {
    MP4.name: ("m4a", "mp4", "m4b", "m4r", "mov"),
    MATROSKA.name: ("webm", "mka", "mkv", "weba"),
    ADTS.name: ("aac",),
    AVI.name: ("avi",),
}
"""Suffixes that a container's sound may have, by the container's name."""
CUT_BY = (0.25, 0.01)  # seconds, and share of its length, by which a stream may be shorter than it states


class Facts(NamedTuple):
    """Facts that a container states: its length is near enough, that of its samples is known when they are decoded."""

    rate: int
    channels: int
    seconds: float
    kind: Kind
    is_stated: bool


class Wave:
    """Decoded samples, (T, 1) mixed or (T, channels), with those parts of libsndfile's file that are used here."""

    subtype, closed = "FLOAT", False

    def __init__(self, samples: np.ndarray, rate: int, channels: int, kind: Kind):
        self.samples, self.samplerate, self.channels, self.format = samples, rate, channels, kind.name
        self.frames, self.at = len(samples), 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, at: int) -> int:
        self.at = at
        return at

    def read(self, count: int, dtype: str = "float32", always_2d: bool = True) -> np.ndarray:
        """Return (count, 1) float32 of a mixed sound, else (count, channels), or as many as there are."""
        found = self.samples[self.at : self.at + count]
        self.at += len(found)
        return found


def container_kind(file: BinaryIO) -> Kind | None:
    """Return the kind of a container that PyAV reads, or None."""
    file.seek(0)
    head = file.read(HEAD)
    if head[:3] == b"ID3" and len(head) >= 10:  # a tag of many kilobytes may stand before AAC
        file.seek(tag_bytes(head))
        head = file.read(HEAD)
    return kind_of(head)


@contextmanager
def open_contained(source: Any, kind: Kind) -> Iterator[Opened]:
    """Open a container for its sound. Raises BadSample: audio/format without PyAV, else as ``open_container``."""
    if not has_package():
        raise bad("audio/format", source, advice(kind.name, has_reader=True))
    with open_container(source, "audio") as opened:
        yield opened


def read_facts(source: Any, kind: Kind, max_seconds: float) -> Facts:
    """Return the facts that a container states. A file without a length is decoded, up to ``max_seconds``."""
    with open_contained(source, kind) as opened:
        stream = require_sound(opened)
        seconds, channels = stated_seconds(opened, stream), len(stream.codec_context.layout.channels)
        if seconds and stream.codec_context.sample_rate and channels:
            return Facts(stream.codec_context.sample_rate, channels, seconds, kind, True)
        heard = hear(opened, max_seconds)
    return Facts(heard.rate, heard.channels, len(heard.wave) / max(heard.rate, 1), kind, False)


def decode(
    source: Any, kind: Kind, max_seconds: float, head_seconds: float | None, all_channels: bool = False
) -> tuple[Wave, bool]:
    """Return a container's samples, and True where it states its length.

    head_seconds: seconds after which decoding stops, or None for all. all_channels: do not mix them. Raises BadSample:
    audio/truncated where the stream states more than there is, audio/no-sound, format, corrupt, too-large, rate.
    """
    with open_contained(source, kind) as opened:
        stream = require_sound(opened)
        alone = not opened.container.streams.video
        seconds = stated_seconds(opened, stream) if stream.duration or alone else None
        heard = hear(opened, max_seconds, head_seconds, all_channels)
    there = len(heard.wave) / max(heard.rate, 1)
    least = min(seconds or 0.0, head_seconds or float("inf"))
    if least - there > max(CUT_BY[0], CUT_BY[1] * least):
        raise bad("audio/truncated", source, f"{there:.2f} of {seconds:.2f} s are there")
    samples = heard.wave if heard.wave.ndim == 2 else heard.wave[:, None]
    return Wave(samples, heard.rate, heard.channels, kind), opened.extent.stated is not None
