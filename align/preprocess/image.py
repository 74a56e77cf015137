"""Images: a picture becomes a row of one size, as published processors or ours make it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from align.media.array import ARRAY
from align.media.picture import MAX_PIXELS, PICTURE
from align.media.pictures.bands import read_bands
from align.media.pictures.channels import TOP
from align.media.recode import check_levels
from align.preprocess.base import Preprocess, check_at_least, check_choice, stack
from align.preprocess.image_presets import MEANS, STDS, Alpha, Backend, Interpolation, Resize, n_numbers, resolve
from align.preprocess.image_resize import TORCH, fit, random_box, resize, weigh_by_alpha
from align.preprocess.image_view import fit_view
from align.preprocess.view import View

DTYPES = {8: torch.uint8, 16: torch.uint16, 32: torch.float32}


class Image(Preprocess):
    """Images of one size. Rows are (channels, H, W), and ``device`` makes them float32, normalised.

    Args:
        size: pixels a side, or (height, width).
        mean, std: the name of a preset ("clip", "imagenet", "half", or "plain", 0 and 1), or a number a channel for
            values in [0, 1]. std=None takes the preset that mean names. Default: clip's, and .5 for other channels than
            three.
        crop_scale: share of the area that a random crop keeps in training. (1, 1) trains on evaluation's crop.
        crop_ratio: width / height of that crop.
        flip: mirror half of the training images. It is off, because digits, letters and gestures do not survive it.
        resize: "crop" scales the short side to the size and takes the centre, "squash" scales both sides, "pad" scales
            the long side and fills the rest. Default: crop.
        max_pixels: a larger picture is refused by its header.
        levels: the values of black and white in pictures of more than 8 bits or of floats, as (0, 4095) for 12 bits
            stored in 16. None takes the range that the file states (SMin- and SMaxSampleValue, Min- and MaxSampleValue
            or OME's SignificantBits of a TIFF, sBIT of a PNG), else the type's (floats: 0 to 1), else, for floats
            beyond, the picture's smallest and largest value. `align shards check` names pictures that this hardly fits.
        preset: a published processor, which fills each argument that is left out: "openai-clip" (open_clip), "clip-hf",
            "siglip" (transformers 5), "imagenet" (timm, torchvision), "pe-core", "imagebind", "imagebind-thermal". See
            ``image_presets.PRESETS``.
        interpolation: bicubic (default), bilinear or nearest, and in PIL also lanczos, box and hamming.
        backend: the library whose pixels the rows equal: "torch" (default), "pil" (open_clip and timm, to the bit) or
            "transformers" (its version 5, to the bit: torch, and a crop whose corner is rounded down).
        crop: share of the scaled side that the centre keeps, timm's crop_pct. Default: 1.
        fill: colour of the border of "pad", from 0 to 255, or a number a channel. Default: 0.
        alpha: "white" (default) shows transparent parts white, "drop" shows their hidden colours, and "keep", in PIL,
            weighs colours by alpha while it scales and drops it then.
        channels: of the rows. One is grey, four are colours and alpha, and any number is read from .npy. Default: the
            preset's, else 3.
        bits: of the rows: 8, 16 or 32 (floats). Default: the preset's, else 8 for three channels and 16 for others.

    Raises ValueError for arguments that do not fit each other.
    """

    suffixes: ClassVar[tuple[str, ...]] = PICTURE.suffixes
    medium = PICTURE

    def __init__(
        self,
        size: int | tuple[int, int] = 224,
        mean: str | tuple[float, ...] | None = None,
        std: str | tuple[float, ...] | None = None,
        crop_scale: tuple[float, float] = (0.9, 1.0),
        crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip: bool = False,
        resize: Resize | None = None,
        max_pixels: int = MAX_PIXELS,
        levels: tuple[float, float] | None = None,
        preset: str | None = None,
        interpolation: Interpolation | None = None,
        backend: Backend | None = None,
        crop: float | None = None,
        fill: float | tuple[float, ...] | None = None,
        alpha: Alpha | None = None,
        channels: int | None = None,
        bits: Literal[8, 16, 32] | None = None,
    ):
        plain = resolve(preset, {"channels": channels, "bits": bits})
        channels, bits = int(plain["channels"]), plain["bits"]
        check_at_least("channels", channels, 1)
        if channels != 3 and preset is None and mean is None and std is None:
            mean, std = (0.5,) * channels, (0.5,) * channels
        given = {"mean": mean, "resize": resize, "interpolation": interpolation, "backend": backend}
        values = resolve(preset, {**given, "crop": crop, "fill": fill, "alpha": alpha})
        self.size = size if isinstance(size, int) else tuple(size)
        self.mean = values["mean"]
        self.std = std
        self.crop_scale = crop_scale
        self.crop_ratio = crop_ratio
        self.flip = flip
        self.resize = values["resize"]
        self.max_pixels = max_pixels
        self.levels = levels
        self.preset = preset
        self.interpolation = values["interpolation"]
        self.backend = values["backend"]
        self.crop = values["crop"]
        colour = values["fill"]
        self.fill = float(colour) if isinstance(colour, int | float) else tuple(float(v) for v in colour)
        self.alpha = values["alpha"]
        self.channels = channels
        self.bits: Literal[8, 16, 32] = bits or (8 if channels == 3 else 16)
        if (channels, self.bits) != (3, 8):  # a plain picture is a file, so a .npy beside it is another modality's
            vars(self)["suffixes"] = (*PICTURE.suffixes, *ARRAY.suffixes)
        self._check()
        self._mean = n_numbers("mean", self.mean, MEANS, channels)
        self._std = n_numbers("std", self.std or self.mean, STDS, channels)
        self._sides = (size, size) if isinstance(size, int) else (size[0], size[1])
        self._fill = self.fill if isinstance(self.fill, tuple) else (self.fill,) * channels

    def _check(self) -> None:
        """Raise ValueError for arguments that are unknown, out of range, or do not fit each other."""
        for side in (self.size,) if isinstance(self.size, int) else self.size:
            check_at_least("size", side, 1)
        check_choice("resize", self.resize, ("crop", "squash", "pad"))
        check_choice("interpolation", self.interpolation, (*TORCH, "lanczos", "box", "hamming"))
        check_choice("backend", self.backend, ("torch", "pil", "transformers"))
        check_choice("alpha", self.alpha, ("white", "drop", "keep"))
        if self.bits not in DTYPES:
            raise ValueError(f"bits={self.bits!r} is not known; it may be 8, 16 or 32")
        for name, (low, high) in {"crop_scale": self.crop_scale, "crop_ratio": self.crop_ratio}.items():
            if not 0 < low <= high:
                raise ValueError(f"{name}={(low, high)} must be 0 < low <= high")
        if self.std is None and not isinstance(self.mean, str):
            numbers = tuple(self.mean)
            raise ValueError(
                f"mean={numbers} are numbers: give std as {len(numbers)} numbers too, or its preset's name"
            )
        if self.crop_scale[1] > 1:
            raise ValueError(
                f"crop_scale={tuple(self.crop_scale)} is a share of the image's area; its end is at most 1"
            )
        if not 0 < self.crop <= 1:
            raise ValueError(f"crop={self.crop} is a share of the scaled side: above 0, at most 1")
        if self.backend != "pil" and self.interpolation not in TORCH:
            raise ValueError(f"interpolation={self.interpolation!r} is PIL's alone: give backend='pil'")
        if self.alpha == "keep" and self.backend != "pil":
            raise ValueError("alpha='keep' is how PIL scales a transparent picture: give backend='pil'")
        if isinstance(self.fill, tuple) and len(self.fill) != self.channels:
            raise ValueError(f"fill={tuple(self.fill)} must be one number or {self.channels}, one a channel")
        check_levels(self.levels)

    def decode(self, source: Any) -> Tensor:
        """Return (C, H, W), upright, from bytes, a path, a PIL image, an ndarray (H, W[, C]) or tensor (C, H, W).

        The first frame of an animation counts, and the first page of a TIFF. A transparent picture has its alpha as a
        fourth channel under alpha="keep". Raises BadSample: image/empty, not-an-image, format, too-large, truncated,
        corrupt, non-finite, shape, dtype, range.
        """
        return read_bands(source, self.max_pixels, self.levels, self.channels, self.bits, self.alpha)

    def train(self, x: Tensor, generator: torch.Generator) -> Tensor:
        if tuple(self.crop_scale) == (1, 1):
            out = self.eval(x)
        else:
            H, W = x.shape[-2:]
            top, left, height, width = random_box(H, W, self.crop_scale, self.crop_ratio, generator)
            out = self._scale(x[:, top : top + height, left : left + width], *self._sides)
        if self.flip and torch.rand((), generator=generator) < 0.5:
            out = out.flip(-1)
        return out

    def eval(self, x: Tensor) -> Tensor:
        return fit(x, self._sides, self.resize, self.crop, self._scale, self._fill, self.backend)

    def fit_mask(self, mask: Tensor) -> Tensor:
        """Return a mask (H, W) of a picture as ``eval`` places the picture: nearest pixels, and 0 in borders."""

        def nearest(x: Tensor, height: int, width: int) -> Tensor:
            return F.interpolate(x[None], (height, width), mode="nearest-exact")[0]

        x = mask[None].to(torch.float32)
        return fit(x, self._sides, self.resize, self.crop, nearest, [0.0], self.backend)[0].to(mask.dtype)

    def view(self, x: Tensor, generator: torch.Generator | None = None) -> View:
        H, W = x.shape[-2:]
        if generator is None or tuple(self.crop_scale) == (1, 1):
            shown = fit_view(H, W, self._sides, self.resize, self.crop, self.backend)
        else:
            top, left, height, width = random_box(H, W, self.crop_scale, self.crop_ratio, generator)
            shown = View(left / W, top / H, (left + width) / W, (top + height) / H)
        flips = generator is not None and self.flip and bool(torch.rand((), generator=generator) < 0.5)
        return shown._replace(mirrored=flips)

    def _scale(self, x: Tensor, height: int, width: int) -> Tensor:
        if len(x) == 4 and self.channels == 3:
            return weigh_by_alpha(x, height, width, self.interpolation)
        return resize(x, height, width, self.interpolation, self.backend)

    def collate(self, rows: Sequence[Tensor]) -> Tensor:
        return stack(rows, (self.channels, *self._sides), DTYPES[self.bits])

    def device(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return (n, channels, H, W) float32: (value / white - mean) / std, in the order of the backend's library."""
        by_pil = self.backend == "pil"
        top = 1 if by_pil else TOP[self.bits]
        mean = self.constant("mean", values.device, lambda: top * torch.tensor(self._mean).view(-1, 1, 1))
        std = self.constant("std", values.device, lambda: top * torch.tensor(self._std).view(-1, 1, 1))
        # numpy asks for huge pages: of 64 pictures, twice as fast as fresh small ones; a graph has no numpy
        if values.device.type == "cpu" and not torch.compiler.is_compiling():
            out = torch.from_numpy(np.empty(values.shape, np.float32)).copy_(values)
        else:
            out = values.to(torch.float32, copy=True)
        if by_pil:
            out.div_(TOP[self.bits])
        return out.sub_(mean).div_(std)  # in place: three times as fast on a CPU
