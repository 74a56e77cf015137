"""Signals of sensors: a recording of any length becomes one window of fixed length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from align.media.array import ARRAY
from align.media.npy import read_array
from align.media.reading import bad
from align.preprocess.base import Preprocess, check_at_least, check_choice, stack
from align.preprocess.standard import check_standard, standardize


class Recordings(NamedTuple):
    """Shape of a window that a published model reads."""

    channels: int
    length: int


PRESETS = {"imagebind-imu": Recordings(6, 2000)}
"""Presets, and their traps.

- imagebind-imu: our choice, because ImageBind published none but the shape. Girdhar et al. 2023 read 5 s of Ego4D as
  2,000 steps, hence 400 Hz: x, y, z of the accelerometer, then x, y, z of the gyroscope. Nothing is
  resampled here, and Ego4D's recordings have about 200 Hz. No mean or deviation is published, so values stay in m/s²
  and rad/s.
"""


class Signal(Preprocess):
    """Windows of recordings with several channels, from .npy bytes, a path, an ndarray or a tensor. Rows are
    (channels, length) float32.

    Training takes a window anywhere, evaluation the middle one. A shorter recording lies in the middle of zeros, in
    training anywhere in them.

    channels: of a recording. length: steps of a window. preset: fills both, "imagebind-imu". See ``PRESETS`` for its
        traps.
    time_first: recordings are (T, channels), else (channels, T).
    missing: let NaN through to the device, where it becomes the channel's mean. Infinity is refused all the same.
    mean, std: taken off on the device, one number or one a channel. The zeros around a short recording stay zero.
    max_length: steps of the longest recording that is read.
    """

    suffixes: ClassVar[tuple[str, ...]] = ARRAY.suffixes
    medium = ARRAY

    def __init__(
        self,
        channels: int | None = None,
        length: int | None = None,
        time_first: bool = False,
        missing: bool = False,
        mean: Sequence[float] | float | None = None,
        std: Sequence[float] | float | None = None,
        max_length: int = 1 << 22,
        preset: Literal["imagebind-imu"] | None = None,
    ):
        if preset is not None:
            check_choice("preset", preset, tuple(PRESETS))
            channels = PRESETS[preset].channels if channels is None else channels
            length = PRESETS[preset].length if length is None else length
        if channels is None or length is None:
            raise ValueError(f"channels={channels}, length={length}: give both, or a preset ({', '.join(PRESETS)})")
        self.preset = preset
        for name, value in (("channels", channels), ("length", length), ("max_length", max_length)):
            check_at_least(name, value, 1)
        self.channels, self.length, self.time_first, self.missing = channels, length, time_first, missing
        self.mean, self.std = check_standard("mean", mean, channels), check_standard("std", std, channels)
        self.max_length = max_length

    def decode(self, source: Any) -> Tensor:
        """Return (channels, T) float32. Raises BadSample: array/empty, not-npy, dtype, too-large, truncated, shape,
        non-finite."""
        array = read_array(source, "array", limit=self.channels * self.max_length)
        if array.dtype.kind not in "fiub":
            raise bad("array/dtype", source, f"{array.dtype} is not numeric")
        if array.ndim == 1:  # a recording of one channel
            array = array[:, None] if self.time_first else array[None]
        wave = array.T if self.time_first else array
        if wave.ndim != 2 or wave.shape[0] != self.channels or not wave.shape[1]:
            wanted = f"(T, {self.channels})" if self.time_first else f"({self.channels}, T)"
            raise bad("array/shape", source, f"shape {array.shape}, expected {wanted}")
        if wave.shape[1] > self.max_length:
            raise bad("array/too-large", source, f"{wave.shape[1]} steps, at most {self.max_length} are read")
        with np.errstate(over="ignore", invalid="ignore"):
            row = np.array(wave, dtype=np.float32, order="C")
        if np.isinf(row).any() or (not self.missing and np.isnan(row).any()):
            raise bad(
                "array/non-finite", source, f"{'infinity' if self.missing else 'NaN or infinity'} among the steps"
            )
        return torch.from_numpy(row)

    def train(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return self._fit(x, float(torch.rand((), generator=generator)))

    def eval(self, x: Tensor) -> Tensor:
        return self._fit(x, 0.5)

    def collate(self, rows: Sequence[Tensor]) -> Tensor:
        return stack(rows, (self.channels, self.length), torch.float32)

    def device(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return (n, channels, length) less ``mean``, over ``std``, with 0 for missing values."""
        values = standardize(values, self.mean, self.std)
        return values.masked_fill(values.isnan(), 0)

    def _fit(self, x: Tensor, place: float) -> Tensor:
        """Cut or fill (channels, T) to the window at ``place`` in [0, 1], 0 the head. NaN fills: 0 on the device."""
        spare = x.shape[1] - self.length
        start = int(place * (abs(spare) + 1 - 1e-6))
        if spare >= 0:
            return x[:, start : start + self.length]
        row = x.new_full((self.channels, self.length), torch.nan)
        row[:, start : start + x.shape[1]] = x
        return row
