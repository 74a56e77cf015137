"""One recording, or samples in memory, to a mono wave at a given rate. Length and rate are checked in the header."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from align.media.reading import bad
from align.media.sounds.recording import check_rate, mean_of_channels, recording, too_large

ENCODED = bytes | bytearray | memoryview | str | Path
LOUDEST = 16.0  # 24 dB above full scale: louder floats are no sound, or undivided integers


def read_sound(source: Any, sample_rate: int, max_seconds: float, all_channels: bool = False) -> Tensor:
    """Read (T,) float32 within [-1, 1], the mean of the channels, at ``sample_rate``.

    all_channels: return (channels, T) where there are several.
    source: bytes, a path, (array, rate), or an array at ``sample_rate``. Arrays are (T,), or have their few channels in
    the shorter dimension. They hold floats within [-1, 1] or integers of full scale. Raises BadSample: audio/empty,
    format, unreadable, truncated, corrupt, no-length, too-large, rate, range, non-finite, shape, dtype.
    """
    if isinstance(source, ENCODED):
        wave, rate = from_file(source, max_seconds, all_channels)
    elif isinstance(source, tuple | list) and len(source) == 2 and not np.ndim(source[1]):
        wave, rate = from_array(source[0], all_channels), source[1]
    elif isinstance(source, np.ndarray | Tensor):
        wave, rate = from_array(source, all_channels), sample_rate
    else:
        raise TypeError(
            f"audio is read from bytes, a path, (array, rate), an ndarray or a tensor, not from {type(source).__name__}"
        )
    check_rate(source, rate)
    if wave.shape[-1] > max_seconds * rate:
        raise too_large(source, wave.shape[-1] / rate, max_seconds)
    return resample(check_wave(wave, source), int(rate), sample_rate)


def check_wave(wave: np.ndarray, source: Any) -> Tensor:
    """Return samples (…, T) clipped to [-1, 1]. Raises BadSample: audio/empty, non-finite, range (absurdly loud)."""
    if wave.shape[-1] == 0:
        raise bad("audio/empty", source, "no samples")
    peak = max(-float(wave.min()), float(wave.max()))  # NaN if any is NaN
    if not np.isfinite(peak):
        raise bad("audio/non-finite", source, "NaN or infinity among the samples")
    if peak > LOUDEST:
        raise bad("audio/range", source, f"samples reach {peak:.3g}; full scale is 1 for floats")
    out = torch.from_numpy(wave)
    return out.clamp(-1, 1) if peak > 1 else out


def from_file(source: Any, max_seconds: float, all_channels: bool = False) -> tuple[np.ndarray, int]:
    """Read ((T,) float32, rate) from an encoded file, or ((channels, T), rate) as ``read_sound`` does."""
    with recording(source, max_seconds, all_channels=all_channels) as opened:
        return opened.read(opened.frames, all_channels), opened.rate


def from_array(samples: Any, all_channels: bool = False) -> np.ndarray:
    """Return float32 of an array of floats or integers in one or two dimensions, in shape as ``read_sound``."""
    array = samples.detach().cpu().numpy() if isinstance(samples, Tensor) else np.asarray(samples)
    if array.ndim == 2:
        array = array.T if array.shape[0] < array.shape[1] else array  # (T, channels)
    elif array.ndim == 1:
        array = array[:, None]
    else:
        raise bad("audio/shape", None, f"samples of shape {array.shape}; expected (T,), (T, channels) or (channels, T)")
    if array.dtype == np.uint8:
        wave = (array.astype(np.float32) - 128) / 128
    elif array.dtype in (np.int16, np.int32):
        wave = array.astype(np.float32) / -float(np.iinfo(array.dtype).min)
    elif array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            wave = array.astype(np.float32)
    else:
        raise bad("audio/dtype", None, f"samples of {array.dtype}; expected floats, int16, int32 or uint8")
    if all_channels and wave.shape[1] > 1:
        return np.ascontiguousarray(wave.T)
    return mean_of_channels(wave) if wave.shape[1] else wave.reshape(0)


def resample(wave: Tensor, rate: int, to: int) -> Tensor:
    """Return the wave (…, T) at ``to`` Hz, by a windowed sinc."""
    if rate == to:
        return wave
    ratio = ratio_of(rate, to)
    return resampler(ratio.denominator, ratio.numerator, wave.dtype)(wave).clamp_(-1, 1)


@lru_cache(8)
def resampler(rate: int, to: int, dtype: torch.dtype) -> torch.nn.Module:
    """Return torchaudio's resampler with its filter, whose making takes as long as resampling seconds of sound.

    A filter of the largest ratio takes 4 MB. ``dtype``: of the filter's arithmetic, that of the waves.
    """
    from torchaudio.transforms import Resample

    with torch.inference_mode(False):  # else the first call, under inference_mode, would spoil it for training
        return Resample(rate, to, dtype=dtype)


def ratio_of(rate: int, to: int) -> Fraction:
    """Return the number of samples at ``to`` Hz for one at ``rate``.

    Two rates without a common divisor (44,101 and 16,000) would need a filter of gigabytes. Their ratio is replaced by
    the nearest fraction with a denominator up to 1000. The error in pitch is below one cent.
    """
    ratio = Fraction(to, rate)
    if max(ratio.numerator, ratio.denominator) > 1000:
        ratio = ratio.limit_denominator(1000) if ratio < 1 else 1 / (1 / ratio).limit_denominator(1000)
    return ratio
