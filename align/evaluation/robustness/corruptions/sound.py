"""Corruptions of sounds: noise, clipping, speed and band. A sound is (T,) or (channels, T) float32 in [-1, 1]."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from align.evaluation.robustness.corruptions.corruption import Corruption, at, check_tensor
from align.media.sounds.read import resample
from align.preprocess import Preprocess

NAMES = ("noise", "clipping", "speed", "band")
NOISE = (20, 15, 10, 5, 0)
CLIPPING = (0.5, 0.3, 0.2, 0.1, 0.05)
SPEED = ((11, 10), (12, 10), (13, 10), (14, 10), (15, 10))
BAND = ((50, 7000), (300, 3400), (400, 2500), (500, 2000), (600, 1500))


def noise(x: Tensor, strength: int, generator: torch.Generator) -> Tensor:
    """Return a sound with white noise. NOISE has the ratio of signal to noise over the whole sound, in dB.

    The ratios are those of Aurora-2 (Hirsch and Pearce 2000). Silence stays silent, as it has no ratio.
    """
    check_tensor(x, (1, 2), "sounds (T,)")
    draws = torch.randn(x.shape, generator=generator).numpy()
    power = np.mean(x.numpy().astype(np.float64) ** 2) if x.numel() else 0.0
    spread = float(np.sqrt(power / 10 ** (at(NOISE, strength) / 10)))
    return torch.from_numpy(np.clip(x.numpy() + np.float32(spread) * draws, -1, 1))


def clipping(x: Tensor, strength: int, generator: torch.Generator) -> Tensor:
    """Return a sound that is cut above a level. CLIPPING has the level as a share of the loudest sample."""
    check_tensor(x, (1, 2), "sounds (T,)")
    level = at(CLIPPING, strength) * float(x.abs().max()) if x.numel() else 0.0
    return x.clamp(-level, level)


def speed(x: Tensor, strength: int, generator: torch.Generator) -> Tensor:
    """Return a sound that is played faster or slower, its pitch too. SPEED has the factor, 1.1 to 1.5.

    A draw decides between faster and slower. 1.1 is the factor of Ko et al. 2015 (Audio augmentation for speech
    recognition), who train with it.
    """
    check_tensor(x, (1, 2), "sounds (T,)")
    fast, slow = at(SPEED, strength)
    if not x.numel():
        return x
    return resample(x, fast, slow) if torch.rand((), generator=generator) < 0.5 else resample(x, slow, fast)


def band(x: Tensor, strength: int, generator: torch.Generator, *, rate: int) -> Tensor:
    """Return a sound without the frequencies outside a band. BAND has its ends in Hz, each band inside the last.

    1 is wideband telephony (ITU-T G.722), 2 is narrowband telephony (G.712). rate: of the sound, in Hz.
    """
    check_tensor(x, (1, 2), "sounds (T,)")
    low, high = at(BAND, strength)
    T = x.shape[-1]
    if not T:
        return x
    spectrum = np.fft.rfft(x.numpy().astype(np.float64))
    frequency = np.fft.rfftfreq(T, 1 / rate)
    spectrum[..., (frequency < low) | (frequency > high)] = 0
    return torch.from_numpy(np.clip(np.fft.irfft(spectrum, T), -1, 1).astype(np.float32))


def corruptions(preprocess: Preprocess) -> dict[str, Corruption]:
    """Return the corruptions of sounds by name. The band is there where the preprocess has a ``sample_rate``."""
    found = {
        "noise": Corruption(noise, NOISE, "ratio of signal to white noise, in dB"),
        "clipping": Corruption(clipping, CLIPPING, "level of the cut, as a share of the loudest sample"),
        "speed": Corruption(speed, [a / b for a, b in SPEED], "factor of speed and pitch, faster or slower by a draw"),
    }
    rate: Any = getattr(preprocess, "sample_rate", None)
    if isinstance(rate, int):
        found["band"] = Corruption(partial(band, rate=rate), BAND, "band of frequencies that is kept, in Hz")
    return found
