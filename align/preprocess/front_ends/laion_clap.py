"""CLAP's mel spectrogram as LAION's own code computes it (Wu et al. 2023, arXiv:2211.06687, section 2.3)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from align.preprocess.audio_groups import Spectrogram
from align.preprocess.front_ends.base import ClipFrontEnd, Constant, FrontEnd
from align.preprocess.front_ends.clap import decibels, on_device
from align.preprocess.front_ends.clap_fusion import part_starts
from align.preprocess.spectrogram import htk_bands, slaney_bands

FULL = 32767.0  # of int16


@final
class LaionClap(FrontEnd):
    """(n, 1, n_mels, frames): Slaney's bands with equal area, in decibels above power 1, floored at 1e-10.

    Traps: a wave first becomes 16 bits, x · 32767 cut towards zero, so a sound below 1 / 32767 is silence. Bands begin
    at 50 Hz, not at 0 as in the defaults of transformers' processor. Weights without fusion have Slaney's bands, those
    with fusion HTK's. A shorter sound is repeated as often as it fits whole, and silence follows. LAION hears 10 s of a
    longer sound at a random place. Here evaluation hears the middle, and training draws.
    """

    def apply(self, waves: Tensor, lengths: Tensor, constant: Constant) -> Tensor:
        bands = constant("bands", waves.device, lambda: on_device(slaney_bands(*self.band_arguments()), waves.device))
        return self.scale(decibels(quantise(waves), self.options, bands, constant))[:, None]

    def middle(self, mel: Tensor) -> Tensor:
        return mel.mean(dim=(-2, -1), keepdim=True)


@final
class LaionClapFusion(ClipFrontEnd):
    """(n, 4, n_mels, frames): the whole spectrogram shrunk to one window, then one window of each third.

    Bands are HTK's, and waves are of 16 bits as in ``LaionClap``. The parts of a clip of one window or less are zero
    throughout, which tells the encoder to leave the fusion out, as LAION's code does for each sound.

    Traps: LAION draws the three windows at random. Here evaluation takes the middle of each third of their possible
    starts, and training draws. A clip that is longer by less than a hop has one window of frames and counts as short.
    The spectrogram is shrunk by bilinear interpolation without smoothing, as by the torchvision 0.13 that the weights
    were trained with. Since 0.17 the same call of LAION's code smooths.
    """

    def __init__(self, options: Spectrogram, sample_rate: int, samples: int):
        super().__init__(options, sample_rate, samples)
        self.shape = (4, options.n_mels, self.frames)

    def clip(self, x: Tensor, generator: torch.Generator | None, constant: Constant) -> Tensor:
        bands = constant("bands", x.device, lambda: htk_bands(*self.band_arguments()))
        mel = self.scale(decibels(quantise(x)[None], self.options, bands, constant))[0]  # (n_mels, all frames)
        T, total = self.frames, mel.shape[1]
        if total <= T:
            return torch.cat([mel[None], mel.new_zeros(3, *mel.shape)])
        whole = interpolate(mel[None, None], (len(mel), T), mode="bilinear", align_corners=False)[0, 0]
        starts = part_starts(total - T + 1, generator)
        return torch.stack([whole, *(mel[:, start : start + T] for start in starts)])

    def middle(self, mel: Tensor) -> Tensor:
        return mel.mean(dim=(-2, -1), keepdim=True)


def quantise(waves: Tensor) -> Tensor:
    """Return waves as numbers of 16 bits hold them: clipped to [-1, 1] and cut towards zero."""
    return (waves.clamp(-1, 1) * FULL).trunc() / FULL
