"""Audio: any recording becomes one mono window of fixed length, and on the device the input of an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Unpack, get_args

import torch
from torch import Tensor

from align.media.sound import SOUND
from align.media.sounds.read import read_sound
from align.media.sounds.window import pack, read_whole, read_window, start_of, unpack
from align.preprocess.audio_fit import fit, split_length, with_length
from align.preprocess.audio_groups import Augment, Flat, Limits, Place, Spectrogram, Window, group
from align.preprocess.audio_presets import preset_arguments
from align.preprocess.base import Preprocess, check_at_least, check_choice, stack
from align.preprocess.front_ends import FRONT_ENDS, ClipFrontEnd
from align.preprocess.spectrogram import spec_augment
from align.values import Values

FrontEndName = Literal[
    "log-mel", "clap", "clap-fusion", "whisper", "kaldi", "wave", "imagebind", "laion-clap", "laion-clap-fusion"
]


class Audio(Preprocess):
    """Windows of sound. Rows are int16 or float32 waves (T,), and ``device`` makes log-mel (n, 1, n_mels, frames).

    With a preset, rows and ``device`` are a published model's, with its traps, which stand at each front end.
    The options of the groups are accepted by their flat names too: ``Audio(n_mels=40, pad="repeat")``.

    Args:
        sample_rate: in Hz. Everything is resampled to it. Without a preset 16000.
        seconds: length of the window. Without a preset 5.
        spectrogram: bands and scale of the spectrogram.
        window: the part of a longer clip that is heard, and the filling of a shorter one. A plain "head" or "center" is
            its place.
        augment: changes that training makes.
        limits: recordings that are refused.
        dtype: of the waves that a worker ships. Without a preset int16.
        preset: a published processor, which fills the arguments that are left out: clap, clap-fusion, whisper, ast,
            pe-av, imagebind-audio, laion-clap, laion-clap-fusion, or wave for torchaudio's bundles.
        front_end: the way from waves to the encoder's input, of `align.preprocess.front_ends`. Without a preset
            log-mel.
    """

    suffixes: ClassVar[tuple[str, ...]] = SOUND.suffixes
    medium = SOUND

    def __init__(
        self,
        sample_rate: int | None = None,
        seconds: float | None = None,
        spectrogram: Spectrogram = Spectrogram(),
        window: Window | Place = Window(),
        augment: Augment = Augment(),
        limits: Limits = Limits(),
        dtype: Literal["int16", "float32"] | None = None,
        preset: str | None = None,
        front_end: FrontEndName | None = None,
        **flat: Unpack[Flat],
    ):
        if unknown := set(flat) - set(Flat.__annotations__):
            raise TypeError(f"Audio has no argument {sorted(unknown)[0]!r}")
        defaults = preset_arguments(preset)
        self.preset = preset
        self.sample_rate: int = defaults["sample_rate"] if sample_rate is None else sample_rate
        self.seconds: float = defaults["seconds"] if seconds is None else seconds
        self.dtype: str = defaults["dtype"] if dtype is None else dtype
        self.front_end: str = defaults["front_end"] if front_end is None else front_end
        check_at_least("sample_rate", self.sample_rate, 1000)
        check_at_least("seconds", self.seconds, 2 / self.sample_rate)
        check_choice("dtype", self.dtype, ("int16", "float32"))
        check_choice("front_end", self.front_end, get_args(FrontEndName))
        self.spectrogram = group(Spectrogram, spectrogram, flat, defaults.get("spectrogram", {}))
        placed = {"place": window} if isinstance(window, str) else window
        self.window = group(Window, placed, flat, defaults.get("window", {}), count="windows")
        self.augment = group(Augment, augment, flat, {})
        self.limits = group(Limits, limits, flat, {})
        self.max_seconds, self.channels = self.limits.max_seconds, 1
        self.samples = round(self.sample_rate * self.seconds)  # T of a window
        self._check()
        self._front = FRONT_ENDS[self.front_end](self.spectrogram, self.sample_rate, self.samples)
        self.n_mels, self.frames = self._front.n_mels, self._front.frames
        self.lengths = self._front.gives_length

    def _check(self) -> None:
        low, high, top = self.spectrogram.f_min, self.spectrogram.f_max, self.sample_rate / 2
        if not 0 <= low < (top if high is None else high) <= top:
            raise ValueError(f"f_min={low}, f_max={high}: expected 0 <= f_min < f_max <= {top} Hz")
        if self.window.pad == "reflect" and self.samples % self.spectrogram.hop:
            raise ValueError(
                f"pad='reflect' needs windows of a multiple of hop={self.spectrogram.hop} samples, not {self.samples}"
            )
        if self.window.count > 1 and issubclass(FRONT_ENDS[self.front_end], ClipFrontEnd):
            raise ValueError(f"front_end={self.front_end!r} hears whole clips; windows={self.window.count} must be 1")

    def decode(self, source: Any) -> Tensor:
        """Return (T,) float32 in [-1, 1] at ``sample_rate``, from bytes, a path, an array or (array, rate).

        For ``imagebind-audio`` several channels are (channels, T).

        Raises BadSample: audio/empty, format, unreadable, truncated, no-length, too-large, rate, range, non-finite,
        shape, dtype.
        """
        every = isinstance(self._front, ClipFrontEnd) and self._front.all_channels
        return read_sound(source, self.sample_rate, self.limits.max_seconds, all_channels=every)

    def row(self, source: Any, generator: torch.Generator | None = None) -> Tensor:
        """Return a row as ``Preprocess.row`` does. Only the window of a longer WAV or FLAC is decoded.

        There NaN, infinity and samples out of range count in the window and a few samples beside it only.
        """
        if type(self) is not Audio or isinstance(self._front, ClipFrontEnd):  # a subclass may have another decode
            return super().row(source, generator)
        if generator is None and self.window.count > 1:
            return self.eval(self.decode(source))
        place, level = (self._place(), 0.5) if generator is None else torch.rand(2, generator=generator).tolist()
        x = read_window(source, self.sample_rate, self.limits.max_seconds, self.samples, place)
        return self.eval(x) if generator is None else self._augment(x, place, level)

    def keep(self, source: Any) -> Tensor | None:
        """Return what ``Preprocess.keep`` does: a wave of 16 bits as int16, or the row (1, T) where no draw changes it.

        None for a long recording that is resampled: its windows equal those of the whole up to rounding only.
        """
        if type(self).row is not Audio.row:
            return None
        if type(self) is not Audio or isinstance(self._front, ClipFrontEnd):
            return pack(self.decode(source))
        x = read_whole(source, self.sample_rate, self.limits.max_seconds, self.samples)
        if x is not None and len(x) == self.samples and not self.augment.gain:
            return self._augment(x, 0.5, 0.5)[None]
        return None if x is None else pack(x)

    def finish(self, kept: Tensor, generator: torch.Generator | None = None) -> Tensor:
        if type(self) is not Audio or isinstance(self._front, ClipFrontEnd):
            return super().finish(unpack(kept), generator)
        place, level = (self._place(), 0.5) if generator is None else torch.rand(2, generator=generator).tolist()
        if kept.ndim == 2:
            return kept[0]
        x = unpack(kept)
        if generator is None and self.window.count > 1:
            return self.eval(x)
        if len(x) > self.samples:
            start = start_of(place, len(x), self.samples)
            x = x[start : start + self.samples]
        return self.eval(x) if generator is None else self._augment(x, place, level)

    def train(self, x: Tensor, generator: torch.Generator) -> Tensor:
        place, level = torch.rand(2, generator=generator).tolist()
        if isinstance(self._front, ClipFrontEnd):
            return self._front.clip(self._lengthen(self._amplify(x, level)), generator, self.constant)
        return self._augment(x, place, level)

    def eval(self, x: Tensor) -> Tensor:
        if isinstance(self._front, ClipFrontEnd):
            return self._front.clip(self._lengthen(x), None, self.constant)
        if self.window.count > 1 and len(x) > self.samples:
            places = [w / (self.window.count - 1) for w in range(self.window.count)]
            return torch.cat([self._window(x, place) for place in places])
        repeats = self.window.pad == "repeat" and len(x) < self.samples
        return self._window(x, 0.0 if repeats else self._place()).repeat(self.window.count)

    def collate(self, rows: Sequence[Tensor]) -> Tensor:
        if isinstance(self._front, ClipFrontEnd):
            return stack(rows, self._front.shape, torch.float32)
        return stack(rows, (self.window.count * self._row_length(),), getattr(torch, self.dtype))

    def device(self, values: Tensor, generator: torch.Generator | None = None) -> Values:
        """Return the encoder's input of collated rows, as the front end has it. With a generator SpecAugment masks it.

        Log-mel is (n, 1, n_mels, frames) float32. A front end that gives lengths has ``{"values", "lengths"}``. Without
        a generator n rows of several windows give n · windows, a row's windows side by side.
        """
        front = self._front
        if not isinstance(front, ClipFrontEnd):
            if generator is not None:
                values = values[:, : self._row_length()]
            elif self.window.count > 1:  # one window may have any length, in a graph
                values = values.reshape(-1, self._row_length())
        waves, lengths = split_length(values) if front.needs_length else (values, values.new_zeros(0))
        if values.shape[0] == 0:
            out = torch.zeros((0, *front.shape), device=values.device)
        else:
            with torch.autocast(values.device.type, enabled=False):  # half precision would flatten the quiet bands
                waves = waves.float() / 32768 if waves.dtype == torch.int16 else waves.float()
                out = front.apply(waves, lengths, self.constant)
            if generator is not None and front.n_mels is not None:
                out = self._mask(out, generator)
        return {"values": out, "lengths": lengths} if front.gives_length else out

    def _mask(self, mel: Tensor, generator: torch.Generator) -> Tensor:
        """Return (n, ..., n_mels, frames) with SpecAugment's masks, others in each channel."""
        augment, middle = self.augment, self._front.middle(mel)
        widest = augment.freq_mask, augment.time_mask
        masked = spec_augment((mel - middle).flatten(0, -3), *widest, augment.masks, generator)
        return masked.view_as(mel) + middle

    def _place(self) -> float:
        return 0.0 if self.window.place == "head" else 0.5

    def _row_length(self) -> int:
        return self.samples + 2 * self._front.needs_length

    def _amplify(self, x: Tensor, level: float) -> Tensor:
        return x * 10 ** (self.augment.gain * (2 * level - 1) / 20) if self.augment.gain else x

    def _augment(self, x: Tensor, place: float, level: float) -> Tensor:
        row = self._window(x, place, level)
        return row.repeat(self.window.count)  # rows are as long as in evaluation; ``device`` takes one

    def _window(self, x: Tensor, place: float, level: float = 0.5) -> Tensor:
        """Return a wave of any length cut or filled to a window, as a worker ships it."""
        if self._front.needs_length and len(x) < self.samples:
            place = 0.0
        x, length = fit(x, self.samples, place, self.window.pad, self.spectrogram.hop)
        x = self._ship(self._amplify(x, level))
        return with_length(x, length) if self._front.needs_length else x

    def _lengthen(self, x: Tensor) -> Tensor:
        """Return a wave of at least one window, where the front end wants it filled."""
        fills = isinstance(self._front, ClipFrontEnd) and self._front.fills and len(x) < self.samples
        return fit(x, self.samples, 0.0, self.window.pad, self.spectrogram.hop)[0] if fills else x

    def _ship(self, x: Tensor) -> Tensor:
        if self.dtype == "int16":
            return (x * 32768).round_().clamp_(-32768, 32767).to(torch.int16)
        return x.clamp(-1, 1)
