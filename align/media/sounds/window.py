"""A window of a recording, decoded without the rest: 5 s of a 30 s FLAC cost a fifth of the whole."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from align.media.sounds.read import ENCODED, checked, ratio_of, read_sound, resampled
from align.media.sounds.recording import Recording, recording

EXACT = ("WAV", "WAVEX", "FLAC")  # where a seek arrives at the very sample; in MP3 and Ogg it may not
PLAIN = "PCM_"  # subtypes without state between samples; floats are read whole, for a NaN may lie anywhere
MARGIN = 7  # periods of the lower of two rates: the resampler's sinc reaches over 6 / 0.99 to either side


def read_window(source: Any, sample_rate: int, max_seconds: float, samples: int, place: float) -> Tensor:
    """(samples,) float32 of ``read_sound(source, sample_rate, max_seconds)``, cut at ``place``; all of a shorter one.

    place: in [0, 1), 0 the head and 0.5 the centre. A WAV or FLAC is read from ``MARGIN`` periods before the window to
    as many after it, rounded to whole periods of the ratio of the rates: the result is that of reading all of it, to
    the bit where nothing is resampled and to rounding elsewhere. Other formats and sources are read as a whole.
    Files of floats are read whole too: a NaN may lie anywhere. Raises BadSample as read_sound does: audio/unreadable,
    of a damaged frame, where it lies in what is read; audio/truncated always, for the last sample is read too.
    """
    wave = from_file(source, sample_rate, max_seconds, samples, place) if isinstance(source, ENCODED) else None
    if wave is None:
        wave = read_sound(source, sample_rate, max_seconds)
        start = start_of(place, len(wave), samples) if len(wave) > samples else 0
        wave = wave[start : start + samples]
    return wave


def from_file(source: Any, sample_rate: int, max_seconds: float, samples: int, place: float) -> Tensor | None:
    """The window of an encoded file, from a part of it where that can be; None where the whole is to be read anew."""
    with recording(source, max_seconds) as opened:
        rate, ratio = opened.rate, ratio_of(opened.rate, sample_rate)
        length = length_at(opened.frames, ratio)
        start = start_of(place, length, samples) if length > samples else 0
        if length <= samples or not is_exact(opened):
            wave = opened.read(opened.frames)
            return resampled(checked(wave, source), rate, sample_rate)[start : start + samples]
        if not can_seek(opened):
            return None
        # the resampler makes blocks of `numerator` samples out of `denominator`: whole blocks keep their phase
        margin = 0 if ratio == 1 else -(-MARGIN // min(ratio.numerator, ratio.denominator))
        first = max(0, start // ratio.numerator - margin)
        last = -(-(start + samples) // ratio.numerator) + margin
        begin, end = first * ratio.denominator, min(last * ratio.denominator, opened.frames)
        opened.sound.seek(begin)
        wave = opened.read(end - begin)
    skip = start - first * ratio.numerator
    return resampled(checked(wave, source), rate, sample_rate)[skip : skip + samples]


def is_exact(opened: Recording) -> bool:
    """Whether a seek arrives at the very sample, and every number is finite."""
    return opened.sound.format in EXACT and opened.sound.subtype.startswith(PLAIN)


def can_seek(opened: Recording) -> bool:
    """Whether the file's last sample is where its header says: not so in a FLAC that was cut."""
    try:
        opened.sound.seek(opened.frames - 1)
        return len(opened.sound.read(1)) == 1
    except RuntimeError:
        return False


def length_at(frames: int, ratio: Fraction) -> int:
    """Samples that ``resampled`` makes of ``frames``: torchaudio takes the ceiling of their product in float32."""
    exact = -(-frames * ratio.numerator // ratio.denominator)
    return exact if ratio == 1 else min(exact, int(torch.tensor(frames * ratio.numerator / ratio.denominator).ceil()))


def start_of(place: float, length: int, samples: int) -> int:
    """Where a window of ``samples`` starts in ``length``, or the other way round where that is the shorter."""
    return int(place * (abs(length - samples) + 1 - 1e-6))
