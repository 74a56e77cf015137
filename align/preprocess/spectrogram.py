"""The fixed mathematics of a log-mel spectrogram: its bands, and the masks that training lays over it."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def mel_bands(sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float) -> Tensor:
    """Return (n_mels, n_fft // 2 + 1) float32: triangles of height 1, evenly spaced in mel from f_min to f_max Hz.

    mel = 2595 log10(1 + f / 700) (O'Shaughnessy 1987), without normalisation, as HTK and torchaudio's default.
    """
    low, high = (2595 * math.log10(1 + f / 700) for f in (f_min, f_max))
    corners = 700 * (10 ** (torch.linspace(low, high, n_mels + 2, dtype=torch.float64) / 2595) - 1)  # Hz
    left, centre, right = (corners[i : n_mels + i, None] for i in range(3))
    hz = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    return torch.minimum((hz - left) / (centre - left), (right - hz) / (right - centre)).clamp(min=0).float()


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
