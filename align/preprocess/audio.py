"""Audio: any recording becomes one mono window of fixed length, and on the device a log-mel spectrogram."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from align.media.sound import MAX_SECONDS, SOUND
from align.media.sounds.read import read_sound
from align.media.sounds.window import read_window, start_of
from align.preprocess.base import Preprocess, check_at_least, check_choice, stack
from align.preprocess.spectrogram import mel_bands, spec_augment


class Audio(Preprocess):
    """Windows of sound. Rows are int16 (or float32) waves (T,); ``device`` makes log-mel (n, 1, n_mels, frames).

    sample_rate: Hz, to which everything is resampled. seconds: the window's length. n_mels, n_fft, hop, f_min, f_max:
    the spectrogram's bands, and in samples its window and step, in Hz its range (None: half the sample rate).
    window: which part of a longer clip evaluation sees, its "head" or its "center", the same each time; training takes
    a random one. windows: more than 1 make evaluation hear the whole of a clip: so many windows, evenly spread from its
    start to its end, of which the tower averages the features; ``window`` then says nothing. Training takes one.
    pad: a shorter clip is filled with silence ("zero": at its end for "head", on both sides for "center", at random in
    training) or repeated ("repeat"). gain: training changes the level by up to so many decibels either way.
    freq_mask, time_mask: SpecAugment's largest masks (bands, frames), ``masks`` of each, in training.
    dtype: what a worker ships. floor, mean, std: (log(max(mel power, floor)) - mean) / std, fixed numbers, so silence
    is a constant and not a division by zero. max_seconds: a longer recording is refused by its header.
    """

    suffixes: ClassVar[tuple[str, ...]] = SOUND.suffixes
    medium = SOUND

    def __init__(
        self,
        sample_rate: int = 16000,
        seconds: float = 5.0,
        n_mels: int = 64,
        n_fft: int = 400,
        hop: int = 160,
        window: Literal["head", "center"] = "center",
        pad: Literal["zero", "repeat"] = "zero",
        f_min: float = 0.0,
        f_max: float | None = None,
        gain: float = 0.0,
        freq_mask: int = 8,
        time_mask: int = 16,
        masks: int = 2,
        dtype: Literal["int16", "float32"] = "int16",
        floor: float = 1e-6,
        mean: float = -6.0,
        std: float = 5.0,
        max_seconds: float = MAX_SECONDS,
        windows: int = 1,
    ):
        check_at_least("sample_rate", sample_rate, 1000)
        check_at_least("seconds", seconds, 2 / sample_rate)
        check_at_least("std", std, 1e-6)
        check_at_least("floor", floor, 1e-30)
        for name, value in {"n_mels": n_mels, "n_fft": n_fft, "hop": hop, "windows": windows}.items():
            check_at_least(name, value, 1)
        for name, value in {"gain": gain, "freq_mask": freq_mask, "time_mask": time_mask, "masks": masks}.items():
            check_at_least(name, value, 0)
        check_choice("window", window, ("head", "center"))
        check_choice("pad", pad, ("zero", "repeat"))
        check_choice("dtype", dtype, ("int16", "float32"))
        if not 0 <= f_min < (sample_rate / 2 if f_max is None else f_max) <= sample_rate / 2:
            raise ValueError(f"f_min={f_min}, f_max={f_max}: expected 0 <= f_min < f_max <= {sample_rate / 2} Hz")
        self.sample_rate = sample_rate
        self.seconds = seconds
        self.n_mels = n_mels
        self.n_fft = n_fft
        self.hop = hop
        self.window = window
        self.pad = pad
        self.f_min = f_min
        self.f_max = f_max
        self.gain = gain
        self.freq_mask = freq_mask
        self.time_mask = time_mask
        self.masks = masks
        self.dtype = dtype
        self.floor = floor
        self.mean = mean
        self.std = std
        self.max_seconds = max_seconds
        self.windows = windows
        self.samples = round(sample_rate * seconds)  # T of a window
        self.frames = 1 + self.samples // hop
        self.channels = 1
        if empty := int((self._bands().sum(1) == 0).sum()):
            raise ValueError(f"{empty} of n_mels={n_mels} bands are narrower than n_fft={n_fft} resolves; raise n_fft")

    def decode(self, source: Any) -> Tensor:
        """(T,) float32 within [-1, 1] at ``sample_rate``, of any length, from bytes, a path, (array, rate) or an array.

        Raises BadSample: audio/empty, format, unreadable, truncated, no-length, too-large, rate, range, non-finite,
        shape, dtype.
        """
        return read_sound(source, self.sample_rate, self.max_seconds)

    def row(self, source: Any, generator: torch.Generator | None = None) -> Tensor:
        """As ``Preprocess.row``, but of a longer WAV or FLAC only the window is decoded.

        NaN, infinity and samples out of range then count where they lie in the window or a few samples beside it.
        """
        if type(self) is not Audio:  # its decode, train or eval may be other ones
            return super().row(source, generator)
        if generator is None and self.windows > 1:
            return self.eval(self.decode(source))
        place, level = (self._place(), 0.5) if generator is None else torch.rand(2, generator=generator).tolist()
        x = read_window(source, self.sample_rate, self.max_seconds, self.samples, place)
        return self.eval(x) if generator is None else self._trained(x, place, level)

    def train(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return self._trained(x, *torch.rand(2, generator=generator).tolist())

    def eval(self, x: Tensor) -> Tensor:
        if self.windows > 1 and len(x) > self.samples:
            places = [w / (self.windows - 1) for w in range(self.windows)]
            return self._shipped(torch.cat([self._fitted(x, place) for place in places]))
        return self._shipped(self._fitted(x, 0.0 if self._repeats(x) else self._place())).repeat(self.windows)

    def collate(self, rows: Sequence[Tensor]) -> Tensor:
        return stack(rows, (self.windows * self.samples,), getattr(torch, self.dtype))

    def device(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(n, T) waves -> (n, 1, n_mels, frames) float32 log-mel, masked by SpecAugment where a generator is given.

        Without a generator (n, windows · T) -> (n · windows, 1, n_mels, frames), those of a row one after the other.
        """
        values = values.reshape(-1, self.samples) if generator is None else values[:, : self.samples]
        if len(values) == 0:
            return torch.zeros((0, 1, self.n_mels, self.frames), device=values.device)
        with torch.autocast(values.device.type, enabled=False):  # half precision would flatten the quiet bands
            mel = self._log_mel(values.float() / 32768 if values.dtype == torch.int16 else values.float())
        if generator is not None:
            mel = spec_augment(mel, self.freq_mask, self.time_mask, self.masks, generator)
        return mel[:, None]

    def _place(self) -> float:
        return 0.0 if self.window == "head" else 0.5

    def _trained(self, x: Tensor, place: float, level: float) -> Tensor:
        x = self._fitted(x, place)
        x = self._shipped(x * 10 ** (self.gain * (2 * level - 1) / 20) if self.gain else x)
        return x.repeat(self.windows)  # rows are as long as in evaluation; ``device`` takes one

    def _repeats(self, x: Tensor) -> bool:
        return self.pad == "repeat" and len(x) < self.samples

    def _fitted(self, x: Tensor, place: float) -> Tensor:
        """(T,) from a wave of any length; ``place`` in [0, 1] says where it is cut, or where it lies in the silence."""
        T = self.samples
        if self._repeats(x):
            turned = x.roll(-int(place * len(x)))
            return turned.repeat(-(-T // len(x)))[:T]
        start = start_of(place, len(x), T)
        if len(x) >= T:
            return x[start : start + T]
        out = x.new_zeros(T)
        out[start : start + len(x)] = x
        return out

    def _shipped(self, x: Tensor) -> Tensor:
        if self.dtype == "int16":
            return (x * 32768).round_().clamp_(-32768, 32767).to(torch.int16)
        return x.clamp(-1, 1)

    def _log_mel(self, waves: Tensor) -> Tensor:
        """(n, T) -> (n, n_mels, frames): power spectrum by a Hann window, triangular bands on the HTK mel scale."""
        hann = self.constant("hann", waves.device, lambda: torch.hann_window(self.n_fft))
        bands = self.constant("bands", waves.device, self._bands)  # (n_mels, n_fft // 2 + 1)
        # padded with silence: reflection needs T > n_fft / 2
        spectrum = torch.stft(
            waves, self.n_fft, self.hop, window=hann, center=True, pad_mode="constant", return_complex=True
        )  # (n, n_fft // 2 + 1, frames)
        mel = bands @ (spectrum.real.square() + spectrum.imag.square())
        return (mel.clamp(min=self.floor).log() - self.mean) / self.std

    def _bands(self) -> Tensor:
        f_max = self.sample_rate / 2 if self.f_max is None else self.f_max
        return mel_bands(self.sample_rate, self.n_fft, self.n_mels, self.f_min, f_max)
