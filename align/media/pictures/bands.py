"""Pictures of one to n channels and of 8 bits, 16 bits or floats: files, PIL images, arrays and .npy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from align.media.npy import read_array
from align.media.pictures.channels import TOP, bands_of, round_to, spread, to_bits, without_alpha
from align.media.pictures.deep import every_bit_of, mend_tiles, significant_bits, stated_range, wide_grey
from align.media.pictures.formats import check_whole, damage
from align.media.pictures.levels import to_depth
from align.media.pictures.read import check_pil, open_image, open_picture, read_picture
from align.media.pictures.upright import has_alpha, orientation, rgb, rgba
from align.media.reading import bad, open_source
from align.values import BadSample

Alpha = Literal["white", "drop", "keep"]
NPY, JPEG = b"\x93NUMPY", b"\xff\xd8\xff"


def read_bands(
    source: Any,
    max_pixels: int,
    levels: Sequence[float] | None = None,
    channels: int = 3,
    bits: int = 8,
    alpha: Alpha = "white",
) -> Tensor:
    """Read (channels, H, W) of uint8 (bits=8), uint16 (16) or float32 in [0, 1] (32), upright.

    source: as ``read_picture`` has it. Unless rows are three channels of 8 bits, also .npy bytes, the path of a .npy,
        and arrays (H, W, C) or (C, H, W) of ``channels``. A file of colours becomes grey for one channel, and has its
        transparency as the fourth.
    levels: black and white in values of more than 8 bits, see ``levels.find_range``.
    alpha: "white" shows transparent parts white. "drop" leaves their hidden colours. "keep" returns (4, H, W) of a
        transparent picture of 8 bits where three channels are asked for, so that scaling can weigh the colours.

    Raises BadSample as ``read_picture``, and image/shape for another number of channels.
    """
    plain = channels == 3 and bits == 8
    if plain and alpha == "white":
        return read_picture(source, max_pixels, levels)
    if plain and isinstance(source, Tensor | np.ndarray):
        return read_picture(without_alpha(source), max_pixels, levels)
    encoded = isinstance(source, bytes | bytearray | memoryview | str | Path)
    head = b""
    if encoded:
        with open_source(source) as file:
            head = file.read(len(NPY))
    if plain and head.startswith(JPEG):
        return read_picture(source, max_pixels, levels)
    if head == NPY and not plain:
        source = read_array(source, "image", limit=max_pixels * max(channels, 4))
    if isinstance(source, Tensor):
        array = source.detach().cpu().numpy()
        source = array.transpose(1, 2, 0) if array.ndim == 3 and array.shape[0] in (channels, 1, 3, 4) else array
    if isinstance(source, np.ndarray):
        return _first(bands_of(source, levels, channels, bits))
    if not encoded:
        page = check_pil(source, max_pixels)
        return _first(_pixels(source, None, page, None, None, levels, channels, bits, alpha))
    with open_picture(source, max_pixels) as found:
        if found.kind != "JPEG":
            check_whole(found.kind, found.file, source)
        used = significant_bits(found.file) if found.kind == "PNG" else None
        again = partial(open_image, found.file, found.kind)
        return _first(_pixels(found.image, source, found.page, used, again, levels, channels, bits, alpha))


def _first(pixels: np.ndarray) -> Tensor:
    """Return (C, H, W) of (H, W, C), channels last in memory, which resizing prefers."""
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _pixels(
    image: Any,
    source: Any,
    page: Any,
    used: int | None,
    again: Any,
    levels: Sequence[float] | None,
    channels: int,
    bits: int,
    alpha: Alpha,
) -> np.ndarray:
    """Return (H, W, channels) of a PIL image that may not have been loaded."""
    if 0 in image.size:
        raise bad("image/empty", source, f"a picture of {image.width} x {image.height} pixels")
    if channels not in (1, 3, 4):
        raise bad("image/shape", source, f"a picture of mode {image.mode}; {channels} channels come from a .npy")
    try:
        join = every_bit_of(image, again)
        if page is not None:
            mend_tiles(image)
        image.load()
        turn = orientation(image)
        deep = join is not None or image.mode.startswith("I") or image.mode == "F"
        if join is not None:
            values = join(image)
            out = to_depth(values, (0, 65535), stated_range(values, page, used), levels, source, bits)
            if image.mode == "RGBA" and channels != 3:
                out = np.dstack([out, to_bits(np.asarray(image)[..., 3], bits)])
            elif image.mode == "RGBA" and alpha == "white":
                share = np.asarray(image)[..., 3:] / 255
                out = round_to(out * share + TOP[bits] * (1 - share), bits)
        elif deep:
            values, natural, stated = wide_grey(image, page, used)
            out = to_depth(values, natural, stated, levels, source, bits)[..., None]
            out = TOP[bits] - out if page is not None and page.inverted else out
        elif page is not None and page.form == 2 and page.bits == 8:  # PIL reads signed bytes as unsigned
            out = to_bits(np.asarray(image) ^ 0x80, bits)[..., None]
        else:
            out = to_bits(_eight(image, channels, alpha), bits)
    except (MemoryError, BadSample):
        raise
    except Exception as error:  # OSError, SyntaxError, ValueError, struct.error, …: each format raises other types
        raise damage(str(image.format), source, error) from None
    out = spread(out, channels, bits) if out.shape[2] != 4 or channels != 3 else out
    return np.array(out if turn is None else _turn(out, turn))


def _eight(image: Any, channels: int, alpha: Alpha) -> np.ndarray:
    """Return (H, W, C) uint8 of a loaded PIL image of 8 bits."""
    if channels == 4:
        return np.asarray(rgba(image))
    if alpha == "keep" and image.mode in ("RGBA", "LA") and channels == 3:
        return np.asarray(rgba(image))
    if alpha != "white" and has_alpha(image):
        image = rgba(image).convert("RGB")
    image = rgb(image)
    return np.asarray(image.convert("L"))[..., None] if channels == 1 else np.asarray(image)


def _turn(pixels: np.ndarray, turn: Any) -> np.ndarray:
    """Return upright pixels. turn: PIL's Transpose."""
    from PIL.Image import Transpose

    steps = {
        Transpose.FLIP_LEFT_RIGHT: lambda x: x[:, ::-1],
        Transpose.FLIP_TOP_BOTTOM: lambda x: x[::-1],
        Transpose.ROTATE_180: lambda x: x[::-1, ::-1],
        Transpose.ROTATE_90: lambda x: np.rot90(x, 1),
        Transpose.ROTATE_270: lambda x: np.rot90(x, -1),
        Transpose.TRANSPOSE: lambda x: x.swapaxes(0, 1),
        Transpose.TRANSVERSE: lambda x: x.swapaxes(0, 1)[::-1, ::-1],
    }
    return steps[turn](pixels)
