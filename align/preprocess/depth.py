"""Depth images: metres become disparities, one channel, as ImageBind and Omnivore read them."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from align.media.array import ARRAY
from align.media.picture import MAX_PIXELS, PICTURE
from align.media.pictures.bands import read_bands
from align.preprocess.base import Preprocess, check_choice
from align.preprocess.image import Image


class Disparity(NamedTuple):
    """Scale of disparities. at_metre: of a point a metre away. nearest: the greatest, 1 in a row. farthest: in metres.
    mean, std: of rows."""

    at_metre: float
    nearest: float
    farthest: float
    mean: float
    std: float


PRESETS = {"imagebind-depth": Disparity(0.075 * 518.857901 / 8, 75.0, 6.25, 0.0418, 0.0295)}
"""Presets, and their traps.

- imagebind-depth: our choice, because ImageBind published none. It follows Omnivore (Girdhar et al. 2022, section 4),
  whose authors gave the steps: depth in metres, cut to .01 … 50, is baseline · focal length / depth in pixels, cut to
  75, over 75, less .0418, over .0295. ImageBind's paper (appendix B) scales and crops like a picture.
  They read SUN RGB-D, whose 16-bit PNGs hold millimetres rotated by three bits, as if they held millimetres: all
  depths are 8 times too far, and mean and std are those of such disparities (in true metres the mean is .318, as
  others measured). So a true metre counts as 8 here, the farthest point is 6.25 m away, and PNGs of SUN RGB-D itself
  need unit=.000125 for values below 8.19 m. Baseline and focal length are those of Kinect 1 in NYU v2, .075 m and
  518.86 pixels, whatever the camera is. A pixel without a reading becomes the mean, where Omnivore reads filled depths.
"""


class Depth(Preprocess):
    """Depth images of one size. Rows are (1, H, W) float32 disparities in [0, 1], and ``device`` normalises them.

    Args:
        size: pixels a side, or (height, width).
        unit: metres that a step of a stored value stands for: 0.001 for millimetres in a PNG of 16 bits, 1 for metres
            in a .npy, an array or a TIFF of floats.
        preset: of the disparities' scale. See ``depth.PRESETS``.
        crop_scale, crop_ratio, flip: augmentation in training, as ``Image`` has them.
        max_pixels: a larger picture is refused by its header.

    Raises ValueError for arguments that do not fit each other.
    """

    suffixes: ClassVar[tuple[str, ...]] = (*PICTURE.suffixes, *ARRAY.suffixes)
    medium = PICTURE

    def __init__(
        self,
        size: int | tuple[int, int] = 224,
        unit: float = 0.001,
        preset: Literal["imagebind-depth"] = "imagebind-depth",
        crop_scale: tuple[float, float] = (0.9, 1.0),
        crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip: bool = False,
        max_pixels: int = MAX_PIXELS,
    ):
        check_choice("preset", preset, tuple(PRESETS))
        if not (unit > 0 and isfinite(unit)):
            raise ValueError(f"unit={unit!r} is metres a stored step: above 0, .001 for millimetres")
        self._scale = PRESETS[preset]
        self._picture = Image(
            size,
            (self._scale.mean,),
            (self._scale.std,),
            crop_scale=crop_scale,
            crop_ratio=crop_ratio,
            flip=flip,
            channels=1,
            bits=32,
        )
        self.size, self.unit = self._picture.size, unit
        self.preset: Literal["imagebind-depth"] = preset
        self.crop_scale, self.crop_ratio, self.flip, self.max_pixels = crop_scale, crop_ratio, flip, max_pixels
        self.channels = 1

    def decode(self, source: Any) -> Tensor:
        """Return (1, H, W) float32 disparities in [0, 1], from a file of one channel, .npy, or an array (H, W).

        Raises BadSample: image/empty, not-an-image, format, too-large, truncated, corrupt, non-finite, shape, dtype.
        """
        scale = self._scale
        share = read_bands(source, self.max_pixels, (0, scale.farthest / self.unit), 1, 32)  # of the farthest
        disparity = scale.at_metre / (share * scale.farthest)  # infinite without a reading
        return torch.where(share > 0, disparity.clamp(max=scale.nearest) / scale.nearest, scale.mean)

    def train(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return self._picture.train(x, generator)

    def eval(self, x: Tensor) -> Tensor:
        return self._picture.eval(x)

    def collate(self, rows: Sequence[Tensor]) -> Tensor:
        return self._picture.collate(rows)

    def device(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return (n, 1, H, W) float32 less the preset's mean, over its std."""
        return self._picture.device(values)
