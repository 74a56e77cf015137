"""Windows of a recording, decoded without the rest: 5 s of a 30 s FLAC cost a fifth of the whole."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from align.media.sounds.read import ENCODED, check_wave, ratio_of, read_sound, resample
from align.media.sounds.recording import Recording, recording
from align.values import BadSample

EXACT = ("WAV", "WAVEX", "FLAC")  # a seek arrives at the exact sample, which is not so in MP3 and Ogg
PLAIN = "PCM_"  # subtypes without state between samples, and without NaN
MARGIN = 7  # periods of the lower rate: the resampler's sinc reaches over 6 / 0.99 to either side


def read_window(source: Any, sample_rate: int, max_seconds: float, samples: int, place: float) -> Tensor:
    """Read (samples,) float32 out of ``read_sound(source, sample_rate, max_seconds)``, cut at ``place``.

    place: in [0, 1), 0 the head and 0.5 the centre. A shorter recording is returned whole. A WAV or FLAC is read from
    ``MARGIN`` periods before the window to as many after it, rounded to whole periods of the ratio of the rates.
    Without resampling the result is equal to the bit to that of the whole file, otherwise up to rounding. Other formats
    and sources are read whole. So are files of floats, because a NaN may lie anywhere.

    Raises BadSample as ``read_sound``: audio/unreadable only for a damaged frame in the part that is read,
    audio/truncated always, because the last sample is read too.
    """
    wave = from_file(source, sample_rate, max_seconds, samples, place) if isinstance(source, ENCODED) else None
    if wave is None:
        wave = read_sound(source, sample_rate, max_seconds)
        start = start_of(place, len(wave), samples) if len(wave) > samples else 0
        wave = wave[start : start + samples]
    return wave


def read_whole(source: Any, sample_rate: int, max_seconds: float, samples: int) -> Tensor | None:
    """Read a whole recording, (T,) float32, out of which every window of ``read_window`` can be cut to the bit.

    None where there is none: in a long recording that is resampled, or damaged outside of the windows.
    """
    if not isinstance(source, ENCODED):
        return read_sound(source, sample_rate, max_seconds)
    with recording(source, max_seconds) as opened:
        rate, ratio = opened.rate, ratio_of(opened.rate, sample_rate)
        length, exact = length_at(opened.frames, ratio), is_exact(opened)
        if length <= samples or not exact:
            wave = resample(check_wave(opened.read(opened.frames), source), rate, sample_rate)
            return wave[:samples] if length <= samples else wave if len(wave) == length else None
        if ratio != 1 or not can_seek(opened):
            return None
    try:
        return read_sound(source, sample_rate, max_seconds)
    except BadSample:
        return None


def pack(wave: Tensor) -> Tensor:
    """Return a wave (T,) as int16 where it consists of 16-bit levels, which takes half the memory, else as it is."""
    levels = (wave * 32768).clamp(-32768, 32767).to(torch.int16)
    return levels if torch.equal(unpack(levels).view(torch.int32), wave.view(torch.int32)) else wave


def unpack(wave: Tensor) -> Tensor:
    """Return the wave of ``pack`` as float32, to the bit."""
    return wave.float() / 32768 if wave.dtype == torch.int16 else wave


def from_file(source: Any, sample_rate: int, max_seconds: float, samples: int, place: float) -> Tensor | None:
    """Read the window of an encoded file, from a part of it if possible, or None if the whole must be read anew."""
    with recording(source, max_seconds) as opened:
        rate, ratio = opened.rate, ratio_of(opened.rate, sample_rate)
        length = length_at(opened.frames, ratio)
        start = start_of(place, length, samples) if length > samples else 0
        if length <= samples or not is_exact(opened):
            wave = opened.read(opened.frames)
            return resample(check_wave(wave, source), rate, sample_rate)[start : start + samples]
        if not can_seek(opened):
            return None
        # The resampler makes `numerator` samples out of each `denominator`. Whole blocks keep their phase.
        margin = 0 if ratio == 1 else -(-MARGIN // min(ratio.numerator, ratio.denominator))
        first = max(0, start // ratio.numerator - margin)
        last = -(-(start + samples) // ratio.numerator) + margin
        begin, end = first * ratio.denominator, min(last * ratio.denominator, opened.frames)
        opened.sound.seek(begin)
        wave = opened.read(end - begin)
    skip = start - first * ratio.numerator
    return resample(check_wave(wave, source), rate, sample_rate)[skip : skip + samples]


def is_exact(opened: Recording) -> bool:
    """Return True if a seek arrives at the exact sample, and the samples are integers, hence finite."""
    return opened.sound.format in EXACT and opened.sound.subtype.startswith(PLAIN)


def can_seek(opened: Recording) -> bool:
    """Return True if the file's last sample can be read at its place. In a FLAC that was cut it cannot."""
    try:
        opened.sound.seek(opened.frames - 1)
        return len(opened.sound.read(1)) == 1
    except RuntimeError:
        return False


def length_at(frames: int, ratio: Fraction) -> int:
    """Return the number of samples that ``resample`` makes of ``frames``, as torchaudio rounds it: up, in float32."""
    exact = -(-frames * ratio.numerator // ratio.denominator)
    return exact if ratio == 1 else min(exact, int(torch.tensor(frames * ratio.numerator / ratio.denominator).ceil()))


def start_of(place: float, length: int, samples: int) -> int:
    """Return the start of a window of ``samples`` in ``length``. The shorter of the two is placed in the longer."""
    return int(place * (abs(length - samples) + 1 - 1e-6))
