"""The interface of a front end: waves (n, T) become the input of an encoder, on its device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from align.preprocess.audio_groups import Spectrogram

Constant = Callable[[str, torch.device, Callable[[], Tensor]], Tensor]
"""``Preprocess.constant``: a name, a device and the function that makes the tensor."""


class FrontEnd(ABC):
    """Abstract: a leaf sets ``shape``, one row of its output, and writes ``apply``.

    options: of the spectrogram. sample_rate: in Hz. samples: T of a window. Raises ValueError for options that do not
    fit each other.
    """

    needs_length: ClassVar[bool] = False
    """True where ``apply`` reads how long the sound is. Then it stands at the start of its row."""
    gives_length: ClassVar[bool] = False
    """True where the encoder is told the length too: its input is ``{"values", "lengths"}``."""

    def __init__(self, options: Spectrogram, sample_rate: int, samples: int):
        self.options, self.sample_rate, self.samples = options, sample_rate, samples
        self.n_mels: int | None = options.n_mels  # None: its output is no spectrogram
        self.frames = 1 + samples // options.hop
        self.shape: tuple[int, ...] = (1, options.n_mels, self.frames)

    @abstractmethod
    def apply(self, waves: Tensor, lengths: Tensor, constant: Constant) -> Tensor:
        """Return (n, \\*shape) float32 of float32 waves (n, T).

        lengths: (n,) int64, the samples of the sound at the start of each row, where ``needs_length``. constant: keeps
        the tensors that are made at the first use.
        """

    def middle(self, mel: Tensor) -> Tensor | float:
        """Return the value that a mask of SpecAugment sets, the mean of the scale."""
        return 0.0

    def band_arguments(self) -> tuple[int, int, int, float, float]:
        """Return sample_rate, n_fft, n_mels, f_min and f_max, as the functions of bands take them."""
        options = self.options
        f_max = self.sample_rate / 2 if options.f_max is None else options.f_max
        return self.sample_rate, options.n_fft, options.n_mels, options.f_min, f_max

    def scale(self, log_mel: Tensor) -> Tensor:
        """Return (x - mean) / std of the options."""
        return (log_mel - self.options.mean) / self.options.std


class ClipFrontEnd(FrontEnd):
    """Abstract: a front end that needs the whole clip, and so computes in a data worker. ``apply`` has nothing left."""

    all_channels: ClassVar[bool] = False
    """True where ``clip`` takes all channels of a file, (channels, T) where there are several, in place of the mean."""
    fills: ClassVar[bool] = True
    """True where a sound that is shorter than a window is filled up before it comes to ``clip``."""

    @abstractmethod
    def clip(self, x: Tensor, generator: torch.Generator | None, constant: Constant) -> Tensor:
        """Return one row (\\*shape) float32 of a wave (T,) of any length. With a generator its places are random."""

    def apply(self, waves: Tensor, lengths: Tensor, constant: Constant) -> Tensor:
        return waves
