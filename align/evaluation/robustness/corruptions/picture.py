"""Corruptions of pictures and of the frames of videos: blur, noise, JPEG and crop.

Blur, noise and JPEG have the values of ImageNet-C at 224 pixels and those of CIFAR-10-C at 32 (Hendrycks and Dietterich
2019, arXiv 1903.12261, and their code). The short side of the picture decides between the two: the value is geometric
in it. A picture above 224 pixels has a blur and a grain of the noise as wide as they are at 224 pixels, in proportion,
because an encoder shrinks it. JPEG's quality is that of 224 pixels there, so it does less damage to a large picture.
The crop is not from there.
"""

from __future__ import annotations

from io import BytesIO
from math import log

import numpy as np
import torch
from torch import Tensor

from align.evaluation.robustness.corruptions.corruption import Corruption, at, check_tensor
from align.preprocess import Preprocess

SMALL, LARGE = 32, 224  # short sides of CIFAR-10-C and ImageNet-C
NAMES = ("blur", "noise", "jpeg", "crop")
BLUR = ((0.4, 1), (0.6, 2), (0.7, 3), (0.8, 4), (1, 6))
NOISE = ((0.04, 0.08), (0.06, 0.12), (0.08, 0.18), (0.09, 0.26), (0.1, 0.38))
JPEG = ((80, 25), (65, 18), (58, 15), (50, 10), (40, 7))
CROP = (0.9, 0.8, 0.7, 0.6, 0.5)


def blur(x: Tensor, strength: int, generator: torch.Generator) -> Tensor:
    """Return pictures (..., H, W) under a Gaussian. BLUR has its deviation in pixels at 32 and at 224 pixels."""
    values = _unit(x)
    side = min(x.shape[-2:])
    deviation = _between(at(BLUR, strength), side) * (side / LARGE if side > LARGE else min(1, side / SMALL))
    return _like(gaussian(gaussian(values, deviation, -1), deviation, -2), x)


def noise(x: Tensor, strength: int, generator: torch.Generator) -> Tensor:
    """Return pictures (..., H, W) with normal noise. NOISE has its deviation, of values from 0 to 1."""
    values = _unit(x)
    H, W = x.shape[-2:]
    grain = max(1.0, min(H, W) / LARGE)  # pixels a side of one draw
    rows, columns = (np.arange(H) / grain).astype(int), (np.arange(W) / grain).astype(int)
    draws = torch.randn(*x.shape[:-2], int(rows[-1]) + 1, int(columns[-1]) + 1, generator=generator).numpy()
    spread = draws[..., rows[:, None], columns]  # (..., H, W)
    return _like(values + _between(at(NOISE, strength), min(H, W)) * spread, x)


def jpeg(x: Tensor, strength: int, generator: torch.Generator) -> Tensor:
    """Return pictures (..., C, H, W) as JPEG of 8 bits leaves them. JPEG has its quality at 32 and at 224 pixels.

    Each channel is a grey picture where there are other than three.
    """
    from PIL import Image

    values = _unit(x)
    quality = round(_between(at(JPEG, strength), min(x.shape[-2:])))
    levels = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    parts = levels.reshape(-1, *levels.shape[-3:])
    colour = levels.shape[-3] == 3
    planes = [part.transpose(1, 2, 0) for part in parts] if colour else [plane for part in parts for plane in part]
    found = []
    for plane in planes:
        file = BytesIO()
        Image.fromarray(np.ascontiguousarray(plane)).save(file, "JPEG", quality=quality)
        read = np.asarray(Image.open(file))
        found.append(read.transpose(2, 0, 1) if colour else read)
    return _like(np.stack(found).reshape(levels.shape) / np.float32(255), x)


def crop(x: Tensor, strength: int, generator: torch.Generator) -> Tensor:
    """Return a part of pictures (..., H, W), at a drawn place. CROP has the share of each side that is kept."""
    check_tensor(x, (3, 4), "pictures (C, H, W)")
    top, left = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
    H, W = x.shape[-2:]
    height, width = (max(1, round(side * at(CROP, strength))) for side in (H, W))
    top, left = int(top * (H - height + 1)), int(left * (W - width + 1))
    return x[..., top : top + height, left : left + width].contiguous()


def corruptions(preprocess: Preprocess) -> dict[str, Corruption]:
    """Return the corruptions of pictures by name."""
    return {
        "blur": Corruption(blur, BLUR, "deviation of a Gaussian, in pixels, at 32 and at 224 pixels"),
        "noise": Corruption(noise, NOISE, "deviation of normal noise on values from 0 to 1, at 32 and at 224 pixels"),
        "jpeg": Corruption(jpeg, JPEG, "quality of JPEG, at 32 and at 224 pixels"),
        "crop": Corruption(crop, CROP, "share of each side that is kept"),
    }


def gaussian(values: np.ndarray, deviation: float, axis: int) -> np.ndarray:
    """Return the values under a Gaussian along an axis, cut at 4 deviations. The edge is repeated outwards.

    It is computed by FFT, whose result depends on no number of threads.
    """
    reach = int(4 * deviation + 0.5)
    if not reach:
        return values
    offset = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offset / deviation) ** 2)
    kernel /= kernel.sum()
    moved = np.moveaxis(values.astype(np.float64), axis, -1)
    wide = np.pad(moved, [(0, 0)] * (moved.ndim - 1) + [(reach, reach)], "edge")
    n = wide.shape[-1] + 2 * reach
    full = np.fft.irfft(np.fft.rfft(wide, n) * np.fft.rfft(kernel, n), n)
    return np.moveaxis(full[..., 2 * reach : 2 * reach + moved.shape[-1]], -1, axis)


def _between(ends: tuple[float, float], side: int) -> float:
    """Return the value for a short side, geometric between the values at 32 and at 224 pixels, and constant beyond."""
    share = min(1.0, max(0.0, log(side / SMALL) / log(LARGE / SMALL)))
    return ends[0] * (ends[1] / ends[0]) ** share


def _unit(x: Tensor) -> np.ndarray:
    """Return pictures (..., H, W) as float32 values from 0 to 1."""
    check_tensor(x, (3, 4), "pictures (C, H, W)")
    values = x.numpy()
    return values if values.dtype.kind == "f" else values.astype(np.float32) / np.iinfo(values.dtype).max


def _like(values: np.ndarray, x: Tensor) -> Tensor:
    """Return values from 0 to 1 as pictures of x's type."""
    values = np.clip(values, 0, 1)
    kind = x.numpy().dtype
    return torch.from_numpy((values if kind.kind == "f" else np.rint(values * np.iinfo(kind).max)).astype(kind))
