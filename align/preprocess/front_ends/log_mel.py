"""Our own log-mel spectrogram: natural logarithm, HTK bands, silence around the window."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from align.preprocess.audio_groups import Spectrogram
from align.preprocess.front_ends.base import Constant, FrontEnd
from align.preprocess.spectrogram import mel_bands


@final
class LogMel(FrontEnd):
    """(n, 1, n_mels, frames): power spectrum by a Hann window, triangular HTK bands, logarithm, mean and std."""

    def __init__(self, options: Spectrogram, sample_rate: int, samples: int):
        super().__init__(options, sample_rate, samples)
        if empty := int((self._bands().sum(1) == 0).sum()):
            raise ValueError(
                f"{empty} of n_mels={self.n_mels} bands are narrower than n_fft={options.n_fft} resolves; raise n_fft"
            )

    def apply(self, waves: Tensor, lengths: Tensor, constant: Constant) -> Tensor:
        options = self.options
        hann = constant("hann", waves.device, lambda: torch.hann_window(options.n_fft))
        bands = constant("bands", waves.device, self._bands)  # (n_mels, n_fft // 2 + 1)
        # padded with silence: reflection needs T > n_fft / 2
        spectrum = torch.stft(
            waves, options.n_fft, options.hop, window=hann, center=True, pad_mode="constant", return_complex=True
        )  # (n, n_fft // 2 + 1, frames)
        mel = bands @ (spectrum.real.square() + spectrum.imag.square())
        return self.scale(mel.clamp(min=options.floor).log())[:, None]

    def _bands(self) -> Tensor:
        return mel_bands(*self.band_arguments())
