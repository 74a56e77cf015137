"""A heat map over its picture, as a PNG."""

from __future__ import annotations

import io

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

COLOURS = ((0.0, 0.0, 0.3), (0.1, 0.4, 0.9), (0.2, 0.8, 0.6), (1.0, 0.85, 0.2), (0.9, 0.1, 0.1))
"""Colours from the lowest value to the highest."""
SHARE = 0.55  # of the colour in a pixel
LEAST = 192  # pixels of the longer side, at least


def draw_heat(picture: Tensor, heat: Tensor, outline: Tensor | None = None) -> bytes:
    """Return a PNG of a picture (C, H, W) uint8, or float from 0 to 1, under the colours of a heat map (h, w).

    The lowest value of the map is dark blue and the highest red, whatever they are. outline: a region (H, W), bool,
    whose edge is drawn white. Of other channels than one or three the first is shown.
    """
    from PIL import Image

    pixels = picture.double() / 255 if picture.dtype == torch.uint8 else picture.double()
    pixels = pixels if len(pixels) == 3 else pixels[:1].expand(3, -1, -1)
    times = max(1, -(-LEAST // max(pixels.shape[1:])))
    size = [times * side for side in pixels.shape[1:]]
    pixels = F.interpolate(pixels[None], size, mode="nearest")[0].clamp(0, 1)
    values = F.interpolate(heat[None, None].double(), size, mode="bilinear")[0, 0]
    spread = values.max() - values.min()
    values = (values - values.min()) / spread if float(spread) > 0 else torch.zeros_like(values)
    out = (1 - SHARE) * pixels + SHARE * _colour(values)
    if outline is not None:
        region = F.interpolate(outline[None, None].double(), size, mode="nearest")[0, 0]
        edge = F.max_pool2d(region[None], 3, 1, 1)[0] != -F.max_pool2d(-region[None], 3, 1, 1)[0]
        out[:, edge] = 1.0
    file = io.BytesIO()
    Image.fromarray((255 * out).round().byte().permute(1, 2, 0).numpy().astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def _colour(values: Tensor) -> Tensor:
    """Return (3, h, w) of values from 0 to 1."""
    table = torch.tensor(COLOURS, dtype=values.dtype)
    place = values * (len(table) - 1)
    low = place.floor().long().clamp(max=len(table) - 2)
    share = (place - low)[..., None]
    return ((1 - share) * table[low] + share * table[low + 1]).permute(2, 0, 1)
