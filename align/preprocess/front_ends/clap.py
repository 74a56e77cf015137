"""CLAP's mel spectrogram in decibels (Wu et al. 2023, section 2.3), as transformers computes it."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from align.preprocess.audio_groups import Spectrogram
from align.preprocess.front_ends.base import Constant, FrontEnd
from align.preprocess.spectrogram import slaney_bands


@final
class Clap(FrontEnd):
    """(n, 1, n_mels, frames): Slaney's bands with equal area, in decibels above power 1, floored at 1e-10.

    Traps: the model without fusion (transformers' "rand_trunc") has Slaney's bands, the one with fusion has HTK's
    without normalisation. Nothing centres the decibels: the model's first batch normalisation does. transformers hears
    10 s of a longer sound at a random place, here evaluation hears the middle. A shorter sound is repeated as often as
    it fits whole, and silence follows. Computed in float64 where the device has it: in float32 the rounding of the
    loud bins reaches the quiet ones.
    """

    def apply(self, waves: Tensor, lengths: Tensor, constant: Constant) -> Tensor:
        bands = constant("bands", waves.device, lambda: on_device(slaney_bands(*self.band_arguments()), waves.device))
        return self.scale(decibels(waves, self.options, bands, constant))[:, None]

    def middle(self, mel: Tensor) -> Tensor:
        return mel.mean(dim=(-2, -1), keepdim=True)


def decibels(waves: Tensor, options: Spectrogram, bands: Tensor, constant: Constant) -> Tensor:
    """Return (n, n_mels, 1 + T // hop) float32 of (n, T). bands: (n_mels, n_fft // 2 + 1), of the precision to use."""
    hann = constant("hann", waves.device, lambda: torch.hann_window(options.n_fft, dtype=bands.dtype))
    spectrum = torch.stft(waves.to(bands.dtype), options.n_fft, options.hop, window=hann, return_complex=True)
    power = bands @ (spectrum.real.square() + spectrum.imag.square())
    return (10 * power.clamp(min=options.floor).log10()).float()


def on_device(bands: Tensor, device: torch.device) -> Tensor:
    """Return float64 bands in the best precision that a device has."""
    return bands.float() if device.type == "mps" else bands
