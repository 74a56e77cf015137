"""Images: a picture in one of seven formats becomes an RGB uint8 row of one size."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from align.media.picture import MAX_PIXELS, PICTURE
from align.media.pictures.read import read_picture
from align.media.recode import check_levels
from align.preprocess.base import Preprocess, check_at_least, check_choice, stack

MEANS = {
    "clip": (0.48145466, 0.4578275, 0.40821073),
    "imagenet": (0.485, 0.456, 0.406),
    "half": (0.5, 0.5, 0.5),
}
STDS = {
    "clip": (0.26862954, 0.26130258, 0.27577711),
    "imagenet": (0.229, 0.224, 0.225),
    "half": (0.5, 0.5, 0.5),
}


class Image(Preprocess):
    """RGB images of size x size. Rows are uint8 (3, size, size), and ``device`` makes them float32, normalised.

    Args:
        size: pixels a side.
        mean, std: the name of a preset ("clip", "imagenet", "half"), or three numbers for values in [0, 1]. std=None
            takes the preset that mean names.
        crop_scale: share of the area that a random crop keeps in training. (1, 1) trains on evaluation's crop.
        crop_ratio: width / height of that crop.
        flip: mirror half of the training images. It is off, because digits, letters and gestures do not survive it.
        resize: "crop" scales the short side to size and takes the centre, "squash" scales both sides.
        max_pixels: a larger picture is refused by its header.
        levels: the values of black and white in pictures of more than 8 bits or of floats, as (0, 4095) for 12 bits
            stored in 16. None takes the range that the file states (SMin- and SMaxSampleValue, Min- and MaxSampleValue
            or OME's SignificantBits of a TIFF, sBIT of a PNG), else the type's (floats: 0 to 1), else, for floats
            beyond, the picture's smallest and largest value. `align shards check` names pictures that this hardly fits.
    """

    suffixes: ClassVar[tuple[str, ...]] = PICTURE.suffixes
    medium = PICTURE

    def __init__(
        self,
        size: int = 224,
        mean: str | tuple[float, float, float] = "clip",
        std: str | tuple[float, float, float] | None = None,
        crop_scale: tuple[float, float] = (0.9, 1.0),
        crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip: bool = False,
        resize: Literal["crop", "squash"] = "crop",
        max_pixels: int = MAX_PIXELS,
        levels: tuple[float, float] | None = None,
    ):
        check_at_least("size", size, 1)
        check_choice("resize", resize, ("crop", "squash"))
        for name, (low, high) in {"crop_scale": crop_scale, "crop_ratio": crop_ratio}.items():
            if not 0 < low <= high:
                raise ValueError(f"{name}={(low, high)} must be 0 < low <= high")
        if std is None and not isinstance(mean, str):
            raise ValueError(f"mean={tuple(mean)} are numbers: give std as three numbers too, or its preset's name")
        if crop_scale[1] > 1:
            raise ValueError(f"crop_scale={tuple(crop_scale)} is a share of the image's area; its end is at most 1")
        check_levels(levels)
        self.size = size
        self.mean = mean
        self.std = std
        self.crop_scale = crop_scale
        self.crop_ratio = crop_ratio
        self.flip = flip
        self.resize = resize
        self.max_pixels = max_pixels
        self.levels = levels
        self.channels = 3
        self._mean = three("mean", mean, MEANS)
        self._std = three("std", std or mean, STDS)

    def decode(self, source: Any) -> Tensor:
        """Return (3, H, W) uint8, upright, from bytes, a path, a PIL image, an ndarray (H, W[, 3]) or tensor (3, H, W).

        The first frame of an animation counts, and the first page of a TIFF. Raises BadSample: image/empty,
        not-an-image, format, too-large, truncated, corrupt, non-finite, shape, dtype, range.
        """
        return read_picture(source, self.max_pixels, self.levels)

    def train(self, x: Tensor, generator: torch.Generator) -> Tensor:
        if tuple(self.crop_scale) == (1, 1):
            out = self.eval(x)
        else:
            H, W = x.shape[-2:]
            top, left, height, width = random_box(H, W, self.crop_scale, self.crop_ratio, generator)
            out = resize(x[:, top : top + height, left : left + width], self.size, self.size)
        if self.flip and torch.rand((), generator=generator) < 0.5:
            out = out.flip(-1)
        return out

    def eval(self, x: Tensor) -> Tensor:
        size = self.size
        if self.resize == "squash":
            return resize(x, size, size)
        H, W = x.shape[-2:]
        short = min(H, W)
        if max(H, W) > 8 * short:  # scaled whole, a 1 x 100,000 strip would need gigabytes
            x = centre(x, min(H, 8 * short), min(W, 8 * short))
            H, W = x.shape[-2:]
        return centre(resize(x, max(size, int(size * H / short)), max(size, int(size * W / short))), size, size)

    def collate(self, rows: Sequence[Tensor]) -> Tensor:
        return stack(rows, (3, self.size, self.size), torch.uint8)

    def device(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return (n, 3, size, size) float32 of uint8 values: (value / 255 - mean) / std."""
        mean = self.constant("mean", values.device, lambda: 255 * torch.tensor(self._mean).view(3, 1, 1))
        std = self.constant("std", values.device, lambda: 255 * torch.tensor(self._std).view(3, 1, 1))
        # numpy asks for huge pages: of 64 pictures, twice as fast as fresh small ones; a graph has no numpy
        if values.device.type == "cpu" and not torch.compiler.is_compiling():
            out = torch.from_numpy(np.empty(values.shape, np.float32)).copy_(values)
        else:
            out = values.to(torch.float32, copy=True)
        return out.sub_(mean).div_(std)  # in place: three times as fast on a CPU


def three(name: str, value: str | Sequence[float], presets: dict[str, tuple[float, ...]]) -> tuple[float, ...]:
    """Return a preset's three numbers, or the three that were given."""
    if isinstance(value, str):
        check_choice(name, value, tuple(presets))
        return presets[value]
    if len(value) != 3 or (name == "std" and not all(v > 0 for v in value)):
        raise ValueError(f"{name}={value!r} must be three {'positive ' if name == 'std' else ''}numbers, or a preset")
    return tuple(float(v) for v in value)


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """Scale (3, H, W) uint8 to (3, height, width), bicubic with antialiasing."""
    if tuple(x.shape[-2:]) == (height, width):
        return x
    return F.interpolate(x[None], (height, width), mode="bicubic", antialias=True)[0]


def centre(x: Tensor, height: int, width: int) -> Tensor:
    """Return the middle height x width of (3, H, W), rounded as torchvision's CenterCrop."""
    H, W = x.shape[-2:]
    top, left = round((H - height) / 2), round((W - width) / 2)
    return x[:, top : top + height, left : left + width]


def random_box(
    H: int, W: int, scale: Sequence[float], ratio: Sequence[float], generator: torch.Generator
) -> tuple[int, int, int, int]:
    """Return (top, left, height, width) of a crop with a random share of the area and a random shape.

    Szegedy et al. 2015, section 6, as torchvision's RandomResizedCrop: ten tries, then the largest central box.
    """
    for draw in torch.rand((10, 4), generator=generator).tolist():
        area = H * W * (scale[0] + draw[0] * (scale[1] - scale[0]))
        shape = exp(log(ratio[0]) + draw[1] * (log(ratio[1]) - log(ratio[0])))
        width, height = round((area * shape) ** 0.5), round((area / shape) ** 0.5)
        if 0 < width <= W and 0 < height <= H:
            return int(draw[2] * (H - height + 1)), int(draw[3] * (W - width + 1)), height, width
    height = max(1, min(H, round(W / ratio[0])))
    width = max(1, min(W, round(H * ratio[1])))
    return (H - height) // 2, (W - width) // 2, height, width
