"""The fixed mathematics of spectrograms: their bands, and the masks that training lays over them."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def mel_bands(sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float) -> Tensor:
    """Return (n_mels, n_fft // 2 + 1) float32: triangles of height 1, evenly spaced in mel from f_min to f_max Hz.

    mel = 2595 log10(1 + f / 700) (O'Shaughnessy 1987), without normalisation, as HTK and torchaudio's default.
    """
    return htk_bands(sample_rate, n_fft, n_mels, f_min, f_max).float()


def htk_bands(sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float) -> Tensor:
    """Return the bands of ``mel_bands`` in float64."""
    low, high = (2595 * math.log10(1 + f / 700) for f in (f_min, f_max))
    corners = 700 * (10 ** (torch.linspace(low, high, n_mels + 2, dtype=torch.float64) / 2595) - 1)  # Hz
    return triangles(corners, torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64))


def slaney_bands(sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float) -> Tensor:
    """Return (n_mels, n_fft // 2 + 1) float64: triangles of equal area, 2 / their width in Hz high.

    Slaney's Auditory Toolbox (1998), as librosa: mel = 3 f / 200 up to 1 kHz, above it 15 + 27 ln(f / 1000) / ln 6.4.
    """
    step = math.log(6.4) / 27

    def to_mel(f: float) -> float:
        return 3 * f / 200 if f < 1000 else 15 + math.log(f / 1000) / step

    mel = torch.linspace(to_mel(f_min), to_mel(f_max), n_mels + 2, dtype=torch.float64)
    corners = torch.where(mel < 15, 200 * mel / 3, 1000 * (step * (mel - 15)).exp())  # Hz
    hz = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    return triangles(corners, hz) * (2 / (corners[2:] - corners[:-2]))[:, None]


def kaldi_bands(sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float) -> Tensor:
    """Return (n_mels, n_fft // 2 + 1) float32: triangles of height 1 in mel, not in Hz, and nothing in the last bin.

    mel = 1127 ln(1 + f / 700), as Kaldi's mel-computations.cc. In float32 as there and in torchaudio: its rounding
    changes the small weights at the corners, and the logarithm shows it.
    """
    low, high = (1127 * math.log(1 + f / 700) for f in (f_min, f_max))
    corners = low + torch.arange(n_mels + 2) * ((high - low) / (n_mels + 1))
    hz = sample_rate / n_fft * torch.arange(n_fft // 2 + 1.0)
    bands = triangles(corners, 1127 * (1 + hz / 700).log())
    bands[:, -1] = 0
    return bands


def triangles(corners: Tensor, at: Tensor) -> Tensor:
    """Return (n, k): n triangles over n + 2 corners, each from corner i over i + 1 to i + 2, at k places."""
    left, centre, right = (corners[i : len(corners) - 2 + i, None] for i in range(3))
    return torch.minimum((at - left) / (centre - left), (right - at) / (right - centre)).clamp(min=0)


def spec_augment(mel: Tensor, bands: int, frames: int, masks: int, generator: torch.Generator) -> Tensor:
    """Set random bands and stretches of (n, n_mels, frames) to 0, the mean. Each row has its own.

    Park et al. 2019, section 2, without time warping: widths uniform up to ``bands`` and ``frames``.
    """
    if masks == 0 or (bands == 0 and frames == 0):
        return mel
    n, M, T = mel.shape
    draws = torch.rand((n, masks, 4), generator=generator, device=generator.device).to(mel.device)
    hidden = torch.zeros_like(mel, dtype=torch.bool)
    for k in range(masks):
        hidden |= span(draws[:, k, :2], M, bands)[:, :, None]
        hidden |= span(draws[:, k, 2:], T, frames)[:, None, :]
    return mel.masked_fill(hidden, 0.0)


def span(draws: Tensor, length: int, widest: int) -> Tensor:
    """Return (n, length) bool, one run a row. draws: (n, 2) uniform, of its width up to ``widest`` and of its place."""
    width = (draws[:, 0] * (min(widest, length) + 1)).floor()
    start = (draws[:, 1] * (length - width + 1)).floor()
    at = torch.arange(length, device=draws.device)
    return (at >= start[:, None]) & (at < (start + width)[:, None])
