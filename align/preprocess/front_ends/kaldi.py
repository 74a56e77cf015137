"""Kaldi's filter bank, as AST (Gong et al. 2021, section 2.1) takes it from torchaudio's compliance.kaldi.fbank."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from align.preprocess.audio_groups import Spectrogram
from align.preprocess.front_ends.base import Constant, FrontEnd
from align.preprocess.spectrogram import kaldi_bands

WINDOW = 0.025  # seconds
PREEMPHASIS = 0.97


@final
class Kaldi(FrontEnd):
    """(n, 1, n_mels, frames) of windows that begin with the sound: whole frames only, and zeros after the last one.

    Each frame of 25 ms loses its mean, then 0.97 of the sample before each sample (the first sample is before itself).
    A symmetric Hann window, the power spectrum, bands that are triangles in mel, the natural logarithm, mean and std.

    Traps: the zeros after a short sound are put in before mean and std, so they become -mean / std, louder than
    silence. AST divides by twice its standard deviation. Samples lie within [-1, 1], although Kaldi expects integers of
    16 bits. A sound of less than one frame has no frame at all. transformers refuses it. Here it is all zeros.
    """

    needs_length = True

    def __init__(self, options: Spectrogram, sample_rate: int, samples: int):
        super().__init__(options, sample_rate, samples)
        self.width = int(sample_rate * WINDOW)
        if samples < self.width:
            raise ValueError(f"a window of {samples} samples is shorter than a frame of {self.width}")
        if options.n_fft < self.width:
            raise ValueError(f"n_fft={options.n_fft} is shorter than a frame of {self.width} samples")
        self.frames = 1 + (samples - self.width) // options.hop
        self.shape = (1, options.n_mels, self.frames)

    def apply(self, waves: Tensor, lengths: Tensor, constant: Constant) -> Tensor:
        hann = constant("hann", waves.device, lambda: torch.hann_window(self.width, periodic=False))
        bands = constant("bands", waves.device, lambda: kaldi_bands(*self.band_arguments()))
        log_mel = log_bands(waves, hann, bands, self.options)  # (n, frames, n_mels)
        count = (lengths - self.width).div(self.options.hop, rounding_mode="floor") + 1  # whole frames of each sound
        real = torch.arange(self.frames, device=waves.device) < count[:, None]  # (n, frames)
        return self.scale(log_mel * real[..., None]).mT[:, None].contiguous()


def log_bands(waves: Tensor, hann: Tensor, bands: Tensor, options: Spectrogram) -> Tensor:
    """Return (n, frames, n_mels), the logarithm of each whole frame's bands, of waves (n, T) of a frame or more.

    hann: (width,), the window of a frame. bands: (n_mels, n_fft // 2 + 1).
    """
    frames = waves.unfold(-1, len(hann), options.hop)  # (n, frames, width)
    frames = frames - frames.mean(-1, keepdim=True)
    before = torch.cat([frames[..., :1], frames[..., :-1]], -1)
    frames = (frames - PREEMPHASIS * before) * hann
    power = torch.fft.rfft(F.pad(frames, (0, options.n_fft - len(hann)))).abs().square()
    return (power @ bands.T).clamp(min=options.floor).log()
