"""Inputs of the goldens of published preprocessing, made from seeds, and what is kept of the rows that they give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

RATES = {"stereo": 44100, "three": 22050}
OFFSETS = {"stereo": (0.08, 0.08), "uneven": (0.3, -0.1), "three": (-0.05, 0.2, 0.4)}
"""Of the channels. Where clips overlap, the mean of all of them makes a step in the first."""
SECONDS = {"tenth": 0.1, "short": 1.3, "exact": 2.0, "overlapping": 2.5, "odd": 3.3107, "long": 7.01, "stereo": 6.2}
SECONDS |= {"uneven": 2.5, "three": 3.3}
VIDEOS = {"still": (1, 50, 40), "pair": (2, 40, 90), "seven": (7, 98, 61), "wide": (12, 251, 340)}
"""Frames, height and width. A frame of an array lasts a second."""


def make_wave(name: str) -> tuple[np.ndarray, int]:
    """Return a sound (T,) or (T, channels) of 16-bit levels with an offset that a quiet half shows, and its rate."""
    seconds = SECONDS[name]
    rate = RATES.get(name, 16000)
    generator = np.random.default_rng(sum(map(ord, name)))
    t = np.arange(round(seconds * rate)) / rate
    wave = 0.3 * np.sin(2 * np.pi * (150 + 400 * t) * t) + generator.normal(0, 0.02, len(t))
    wave *= np.where(t < seconds / 2, 1, 0.003)
    if name in OFFSETS:
        channels = (wave, 0.5 * wave[::-1], 0.3 * wave)
        wave = np.stack([offset + x for offset, x in zip(OFFSETS[name], channels, strict=False)], 1)
    else:
        wave = 0.08 + wave
    return (np.rint(wave.clip(-1, 1) * 32767) / 32768).astype(np.float32), rate


def make_cloud(points: int, channels: int = 6, seed: int = 0) -> np.ndarray:
    """Return (points, channels) float32: two bodies away from the origin, colours in [0, 1]."""
    generator = np.random.default_rng(seed)
    xyz = generator.normal(0, (0.4, 1.0, 2.0), (points, 3)) + np.where(np.arange(points)[:, None] % 3 == 0, 2.0, -1.0)
    return np.concatenate([xyz, generator.random((points, channels - 3))], 1).astype(np.float32)


def make_video(name: str) -> Tensor:
    """Return (T, 3, H, W) uint8, smooth patterns that move."""
    T, H, W = VIDEOS[name]
    t, y, x = np.meshgrid(np.arange(T), np.arange(H), np.arange(W), indexing="ij")
    shades = [np.sin(0.31 * x + k * y / 9 + 1.7 * t) * np.cos(0.05 * k * x + t) for k in (1, 2, 3)]
    return torch.from_numpy(np.rint(127.5 + 127 * np.stack(shades, 1)).astype(np.uint8))


def make_picture(channels: int) -> np.ndarray:
    """Return (90, 130, channels) uint8."""
    y, x = np.mgrid[:90, :130]
    return np.stack([(3 * x + k * y + x * y // (k + 7)) % 256 for k in range(channels)], -1).astype(np.uint8)


def make_depth() -> np.ndarray:
    """Return (224, 224) uint16 of SUN RGB-D's files, millimetres rotated left by three bits, from 0.3 to 8 m."""
    y, x = np.mgrid[:224, :224]
    return ((300 + 33 * y + (x * 7) % 301) * 8).astype(np.uint16)


def pick(x: Tensor) -> Tensor:
    """Return 64 values of a tensor at scattered places, its mean and its mean square, float32."""
    flat = x.detach().double().flatten()
    places = torch.arange(64) * 7919 % len(flat)
    return torch.cat([flat[places], flat.mean()[None], flat.square().mean()[None]]).float()


def real_sounds(folder: Path) -> list[Path]:
    """Return recordings of ESC-10: a short event in silence, rain, and others."""
    return sorted(folder.rglob("*.ogg"))[::57]
