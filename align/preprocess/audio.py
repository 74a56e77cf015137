"""Audio: any recording becomes one mono window of fixed length, and on the device a log-mel spectrogram."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Unpack

import torch
from torch import Tensor

from align.media.sound import SOUND
from align.media.sounds.read import read_sound
from align.media.sounds.window import read_window, start_of
from align.preprocess.audio_groups import Augment, Flat, Limits, Place, Spectrogram, Window, group
from align.preprocess.base import Preprocess, check_at_least, check_choice, stack
from align.preprocess.spectrogram import mel_bands, spec_augment


class Audio(Preprocess):
    """Windows of sound. Rows are int16 or float32 waves (T,), and ``device`` makes log-mel (n, 1, n_mels, frames).

    The options of the groups are accepted by their flat names too: ``Audio(n_mels=40, pad="repeat")``.

    Args:
        sample_rate: in Hz. Everything is resampled to it.
        seconds: length of the window.
        spectrogram: bands and scale of the log-mel spectrogram.
        window: the part of a longer clip that is heard, and the filling of a shorter one. A plain "head" or "center" is
            its place.
        augment: changes that training makes.
        limits: recordings that are refused.
        dtype: of the waves that a worker ships.
    """

    suffixes: ClassVar[tuple[str, ...]] = SOUND.suffixes
    medium = SOUND

    def __init__(
        self,
        sample_rate: int = 16000,
        seconds: float = 5.0,
        spectrogram: Spectrogram = Spectrogram(),
        window: Window | Place = Window(),
        augment: Augment = Augment(),
        limits: Limits = Limits(),
        dtype: Literal["int16", "float32"] = "int16",
        **flat: Unpack[Flat],
    ):
        check_at_least("sample_rate", sample_rate, 1000)
        check_at_least("seconds", seconds, 2 / sample_rate)
        check_choice("dtype", dtype, ("int16", "float32"))
        if unknown := set(flat) - set(Flat.__annotations__):
            raise TypeError(f"Audio has no argument {sorted(unknown)[0]!r}")
        self.sample_rate, self.seconds, self.dtype = sample_rate, seconds, dtype
        self.spectrogram = group(Spectrogram, spectrogram, flat)
        self.window = group(Window, Window(window) if isinstance(window, str) else window, flat, count="windows")
        self.augment = group(Augment, augment, flat)
        self.limits = group(Limits, limits, flat)
        low, high = self.spectrogram.f_min, self.spectrogram.f_max
        if not 0 <= low < (sample_rate / 2 if high is None else high) <= sample_rate / 2:
            raise ValueError(f"f_min={low}, f_max={high}: expected 0 <= f_min < f_max <= {sample_rate / 2} Hz")
        self.n_mels, self.max_seconds = self.spectrogram.n_mels, self.limits.max_seconds
        self.samples = round(sample_rate * seconds)  # T of a window
        self.frames = 1 + self.samples // self.spectrogram.hop
        self.channels = 1
        if empty := int((self._bands().sum(1) == 0).sum()):
            raise ValueError(
                f"{empty} of n_mels={self.n_mels} bands are narrower than n_fft={self.spectrogram.n_fft} resolves; "
                "raise n_fft"
            )

    def decode(self, source: Any) -> Tensor:
        """Return (T,) float32 in [-1, 1] at ``sample_rate``, from bytes, a path, an array or (array, rate).

        Raises BadSample: audio/empty, format, unreadable, truncated, no-length, too-large, rate, range, non-finite,
        shape, dtype.
        """
        return read_sound(source, self.sample_rate, self.limits.max_seconds)

    def row(self, source: Any, generator: torch.Generator | None = None) -> Tensor:
        """Return a row as ``Preprocess.row`` does. Only the window of a longer WAV or FLAC is decoded.

        There NaN, infinity and samples out of range count in the window and a few samples beside it only.
        """
        if type(self) is not Audio:  # its decode, train or eval may be other ones
            return super().row(source, generator)
        if generator is None and self.window.count > 1:
            return self.eval(self.decode(source))
        place, level = (self._place(), 0.5) if generator is None else torch.rand(2, generator=generator).tolist()
        x = read_window(source, self.sample_rate, self.limits.max_seconds, self.samples, place)
        return self.eval(x) if generator is None else self._augment(x, place, level)

    def train(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return self._augment(x, *torch.rand(2, generator=generator).tolist())

    def eval(self, x: Tensor) -> Tensor:
        if self.window.count > 1 and len(x) > self.samples:
            places = [w / (self.window.count - 1) for w in range(self.window.count)]
            return self._ship(torch.cat([self._fit(x, place) for place in places]))
        return self._ship(self._fit(x, 0.0 if self._repeats(x) else self._place())).repeat(self.window.count)

    def collate(self, rows: Sequence[Tensor]) -> Tensor:
        return stack(rows, (self.window.count * self.samples,), getattr(torch, self.dtype))

    def device(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return log-mel (n, 1, n_mels, frames) float32 of (n, T) waves. With a generator SpecAugment masks them.

        Without a generator (n, windows · T) gives (n · windows, 1, n_mels, frames), a row's windows side by side.
        """
        values = values.reshape(-1, self.samples) if generator is None else values[:, : self.samples]
        if values.shape[0] == 0:
            return torch.zeros((0, 1, self.n_mels, self.frames), device=values.device)
        with torch.autocast(values.device.type, enabled=False):  # half precision would flatten the quiet bands
            mel = self._log_mel(values.float() / 32768 if values.dtype == torch.int16 else values.float())
        if generator is not None:
            augment = self.augment
            mel = spec_augment(mel, augment.freq_mask, augment.time_mask, augment.masks, generator)
        return mel[:, None]

    def _place(self) -> float:
        return 0.0 if self.window.place == "head" else 0.5

    def _augment(self, x: Tensor, place: float, level: float) -> Tensor:
        x = self._fit(x, place)
        x = self._ship(x * 10 ** (self.augment.gain * (2 * level - 1) / 20) if self.augment.gain else x)
        return x.repeat(self.window.count)  # rows are as long as in evaluation; ``device`` takes one

    def _repeats(self, x: Tensor) -> bool:
        return self.window.pad == "repeat" and len(x) < self.samples

    def _fit(self, x: Tensor, place: float) -> Tensor:
        """Cut or fill a wave of any length to (T,). ``place`` in [0, 1]: the cut, or its place in the silence."""
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

    def _ship(self, x: Tensor) -> Tensor:
        if self.dtype == "int16":
            return (x * 32768).round_().clamp_(-32768, 32767).to(torch.int16)
        return x.clamp(-1, 1)

    def _log_mel(self, waves: Tensor) -> Tensor:
        """Return (n, n_mels, frames) of (n, T): power spectrum by a Hann window, triangular HTK mel bands."""
        hann = self.constant("hann", waves.device, lambda: torch.hann_window(self.spectrogram.n_fft))
        bands = self.constant("bands", waves.device, self._bands)  # (n_mels, n_fft // 2 + 1)
        # padded with silence: reflection needs T > n_fft / 2
        spectrum = torch.stft(
            waves,
            self.spectrogram.n_fft,
            self.spectrogram.hop,
            window=hann,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )  # (n, n_fft // 2 + 1, frames)
        mel = bands @ (spectrum.real.square() + spectrum.imag.square())
        return (mel.clamp(min=self.spectrogram.floor).log() - self.spectrogram.mean) / self.spectrogram.std

    def _bands(self) -> Tensor:
        spectrogram = self.spectrogram
        f_max = self.sample_rate / 2 if spectrogram.f_max is None else spectrogram.f_max
        return mel_bands(self.sample_rate, spectrogram.n_fft, self.n_mels, spectrogram.f_min, f_max)
