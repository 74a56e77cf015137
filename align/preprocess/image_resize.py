"""The size of a picture: scaled by PIL or torch, cropped, squashed or padded as a published processor does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp, floor, log

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

TORCH = ("bicubic", "bilinear", "nearest")
"""Interpolations of torch; PIL has all six."""
LONGEST = {"torch": 8, "pil": 512, "transformers": 512}
"""Longest side as a multiple of the short one. A longer strip is cut: scaled whole, it would need gigabytes."""
TOPS = {torch.uint8: 255, torch.uint16: 65535, torch.float32: 1}


Scale = Callable[[Tensor, int, int], Tensor]
"""(C, H, W), height, width -> (C, height, width)."""


def fit(
    x: Tensor, size: tuple[int, int], how: str, crop: float, scale: Scale, fill: Sequence[float], backend: str
) -> Tensor:
    """Return (C, *size) of (C, H, W).

    "crop" scales the short side to floor(size / crop) and takes the centre. "squash" scales both sides to that and
    takes the centre. "pad" scales the long side to that, and fills the rest. Sides are rounded as torchvision rounds
    them for a square crop (``int``), and as timm and open_clip do otherwise (``round``).
    """
    tall, wide = (floor(side / crop) for side in size)
    if how == "squash":
        scaled = scale(x, tall, wide)
    elif how == "pad":
        H, W = x.shape[-2:]
        ratio = max(H / tall, W / wide)
        scaled = scale(x, max(1, round(H / ratio)), max(1, round(W / ratio)))
        scaled = pad(scaled, size, fill)
    else:
        H, W = x.shape[-2:]
        most = LONGEST[backend] * min(H, W)
        if max(H, W) > most:
            x = centre(x, min(H, most), min(W, most))
            H, W = x.shape[-2:]
        if tall == wide:
            short = min(H, W)
            sides = max(tall, int(tall * H / short)), max(wide, int(wide * W / short))
        else:
            ratio = min(H / tall, W / wide)
            sides = max(size[0], round(H / ratio)), max(size[1], round(W / ratio))
        scaled = scale(x, *sides)
    return centre(scaled, *size, down=backend == "transformers")


def resize(x: Tensor, height: int, width: int, interpolation: str = "bicubic", backend: str = "torch") -> Tensor:
    """Return (C, height, width) of (C, H, W), antialiased, clamped to the range of the type and rounded to it."""
    if backend == "pil":
        return _by_pil(x, height, width, interpolation)
    if tuple(x.shape[-2:]) == (height, width):
        return x
    smooth = interpolation != "nearest"
    if backend == "transformers":
        x = x.contiguous()
    if x.dtype == torch.uint8:
        return F.interpolate(x[None], (height, width), mode=interpolation, antialias=smooth)[0]
    out = F.interpolate(x.to(torch.float32)[None], (height, width), mode=interpolation, antialias=smooth)[0]
    out = out.clamp_(0, TOPS[x.dtype])
    return out if x.dtype == torch.float32 else out.round_().to(x.dtype)


def _by_pil(x: Tensor, height: int, width: int, interpolation: str) -> Tensor:
    from PIL import Image

    how = Image.Resampling[interpolation.upper()]
    pixels = x.permute(1, 2, 0).numpy()
    if x.dtype == torch.uint8 and len(x) == 3:
        image = Image.fromarray(np.ascontiguousarray(pixels)).resize((width, height), how)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)
    bands = [Image.fromarray(_band(band)).resize((width, height), how) for band in x.numpy()]
    out = torch.from_numpy(np.stack([np.asarray(band) for band in bands], axis=-1)).permute(2, 0, 1)
    if x.dtype == torch.uint8:
        return out
    out = out.clamp_(0, TOPS[x.dtype])
    return out if x.dtype == torch.float32 else out.round_().to(x.dtype)


def _band(band: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(band if band.dtype == np.uint8 else band.astype(np.float32))


def weigh_by_alpha(x: Tensor, height: int, width: int, interpolation: str) -> Tensor:
    """Return (3, height, width) uint8 of (4, H, W): PIL scales colours times alpha, and the alpha is dropped."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(x.permute(1, 2, 0).numpy()))
    image = image.resize((width, height), Image.Resampling[interpolation.upper()]).convert("RGB")
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def pad(x: Tensor, size: tuple[int, int], fill: Sequence[float]) -> Tensor:
    """Return (C, H, W) with borders up to ``size`` at least, the wider half below and to the right.

    fill: C numbers from 0 (black) to 255 (white).
    """
    H, W = x.shape[-2:]
    tall, wide = max(size[0], H), max(size[1], W)
    if (tall, wide) == (H, W):
        return x
    colour = torch.tensor([v * TOPS[x.dtype] / 255 for v in fill])
    out = colour.to(x.dtype).view(-1, 1, 1).repeat(1, tall, wide)
    top, left = (tall - H) // 2, (wide - W) // 2
    out[:, top : top + H, left : left + W] = x
    return out


def centre(x: Tensor, height: int, width: int, down: bool = False) -> Tensor:
    """Return the middle height x width of (C, H, W).

    The corner is rounded as torchvision's CenterCrop does, half to even. transformers 5 rounds it ``down``.
    """
    H, W = x.shape[-2:]
    to = floor if down else round
    top, left = to((H - height) / 2), to((W - width) / 2)
    return x[:, top : top + height, left : left + width]


def random_box(
    H: int, W: int, share: Sequence[float], ratio: Sequence[float], generator: torch.Generator
) -> tuple[int, int, int, int]:
    """Return (top, left, height, width) of a crop with a random share of the area and a random shape.

    Szegedy et al. 2015, section 6, as torchvision's RandomResizedCrop: ten tries, then the largest central box.
    """
    for draw in torch.rand((10, 4), generator=generator).tolist():
        area = H * W * (share[0] + draw[0] * (share[1] - share[0]))
        shape = exp(log(ratio[0]) + draw[1] * (log(ratio[1]) - log(ratio[0])))
        width, height = round((area * shape) ** 0.5), round((area / shape) ** 0.5)
        if 0 < width <= W and 0 < height <= H:
            return int(draw[2] * (H - height + 1)), int(draw[3] * (W - width + 1)), height, width
    height = max(1, min(H, round(W / ratio[0])))
    width = max(1, min(W, round(H * ratio[1])))
    return (H - height) // 2, (W - width) // 2, height, width
