"""Encoded recordings, opened: true rate, channels and length, even if the header leaves them out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from align.media.reading import bad, open_source
from align.media.sounds.contained import Wave, container_kind, decode, read_facts
from align.media.sounds.length import cut, explain_failure, find_length
from align.values import BadSample

if TYPE_CHECKING:
    from soundfile import SoundFile

RATES = (1000, 768_000)  # Hz that a header may state


class Recording(NamedTuple):
    """Open recording. frames: samples of each channel. stated: True if a header states them, False if counted."""

    sound: SoundFile | Wave
    frames: int
    stated: bool
    source: Any

    @property
    def rate(self) -> int:
        return self.sound.samplerate

    def read(self, count: int, all_channels: bool = False) -> np.ndarray:
        """Read (count,) float32 from the file's position, the mean of the channels.

        all_channels: read (channels, count) where there are several. A container's sound has to be opened with it, too.
        Raises BadSample: audio/truncated, no-length.
        """
        start = self.sound.tell() if self.sound.seekable() else 0  # a WAV of GSM 6.10 is not seekable
        samples = self.sound.read(count, dtype="float32", always_2d=True)  # (T, channels)
        there = start + len(samples)
        if len(samples) < count and self.stated:
            raise cut(self.source, there, self.frames, "samples")
        if len(samples) < count:
            detail = f"no header states the length; of {self.frames} samples that were counted {there} could be read"
            raise bad("audio/no-length", self.source, detail)
        if self.sound.channels == 1:
            return samples[:, 0]
        if all_channels:
            return np.ascontiguousarray(samples.T)
        mixed = isinstance(self.sound, Wave)  # while it was decoded
        return samples[:, 0] if mixed else mean_of_channels(samples)


class Heading(NamedTuple):
    """Facts about a recording that are known before it is decoded."""

    rate: int
    channels: int
    frames: int
    format: str  # libsndfile's name, or that of a container
    stated: bool

    @property
    def seconds(self) -> float:
        return self.frames / self.rate


def heading(source: Any, max_seconds: float = float("inf")) -> Heading:
    """Return rate, channels and length of a file or its bytes. Raises BadSample as ``recording``.

    The length of a container's sound (MP4, WebM) is as it is stated there, which may miss that of its samples by a few.
    """
    with open_source(source) as file:
        kind = container_kind(file)
    if kind is not None:
        facts = read_facts(source, kind, max_seconds)
        return Heading(facts.rate, facts.channels, round(facts.seconds * facts.rate), kind.name, facts.is_stated)
    with recording(source, max_seconds) as it:
        return Heading(it.rate, it.sound.channels, it.frames, it.sound.format, it.stated)


@contextmanager
def recording(
    source: Any, max_seconds: float, head_seconds: float | None = None, all_channels: bool = False
) -> Iterator[Recording]:
    """Open an encoded file at its first sample, after its length is checked. That of a container is decoded here.

    head_seconds: seconds that will be read, or None for all. No more of a container's sound are decoded.
    all_channels: of ``Recording.read``.

    Errors while it is open become BadSample: audio/empty, format, unreadable, truncated, corrupt, no-length, too-large,
    rate.
    """
    import soundfile

    with open_source(source) as file:
        kind = container_kind(file)
        if kind is not None:
            wave, is_stated = decode(source, kind, max_seconds, head_seconds, all_channels)
            check_rate(source, wave.samplerate)
            yield Recording(wave, wave.frames, is_stated, source)
            return
        given = find_length(file, max_seconds, source)
        try:
            given.file.seek(0)
            with soundfile.SoundFile(cast(Any, given.file)) as sound:
                check_rate(source, sound.samplerate)
                if sound.format == "MP3" and given.frames is None and not given.stated:
                    raise bad("audio/no-length", source, "no header states the length; its frames cannot be counted")
                frames = sound.frames if given.frames is None else given.frames
                seconds = frames / sound.samplerate
                if frames * sound.channels > max(max_seconds, 1) * sound.samplerate * 8 or seconds > max_seconds:
                    counted = given.frames is not None and seconds > max_seconds  # counting stopped at the limit
                    raise too_large(source, None if counted else seconds, max_seconds, sound.channels)
                yield Recording(sound, frames, given.stated, source)
        except (soundfile.SoundFileError, RuntimeError, OSError, ValueError, TypeError) as error:
            detail = re.sub(r"^Error opening .*?: ", "", " ".join(str(error).split())).rstrip(".")
            raise explain_failure(file, given, detail, source) from None


def mean_of_channels(samples: np.ndarray) -> np.ndarray:
    """Return (T,) of (T, channels) floats. Infinite samples give infinite means, which are refused later."""
    with np.errstate(invalid="ignore", over="ignore"):
        if samples.shape[1] != 2:
            return samples.mean(1)
        both = samples[:, 0] + samples[:, 1]  # the same sum as in `mean`, which walks a row of two at a time: 10 times
        both *= 0.5
        return both


def check_rate(source: Any, rate: Any) -> None:
    """Raise BadSample audio/rate for a rate outside RATES."""
    if not RATES[0] <= rate <= RATES[1]:
        raise bad("audio/rate", source, f"{rate} Hz; expected {RATES[0]} to {RATES[1]}")


def too_large(source: Any, seconds: float | None, max_seconds: float, channels: int = 1) -> BadSample:
    """Return the reason audio/too-large. seconds: None if counting stopped at the limit."""
    long = f"more than {max_seconds:g} s" if seconds is None else f"{seconds:.1f} s"
    also = f" in {channels} channels" if channels > 1 else ""
    return bad("audio/too-large", source, f"{long}{also}, at most {max_seconds:g} s are read")
