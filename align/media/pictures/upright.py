"""PIL images and arrays to upright RGB of 8 bits: grey, palette, CMYK, LAB, deep and transparent ones alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from align.media.pictures.deep import mend_tiles, wide_colours, wide_grey
from align.media.pictures.formats import damage
from align.media.pictures.levels import Used, to_bytes
from align.media.pictures.tiff import Page
from align.media.reading import bad
from align.values import BadSample

ORIENTATION = 0x0112  # the EXIF tag


class Decoded(NamedTuple):
    """Decoded picture. pixels: (H, W, 3) uint8. used: how they were scaled, for a picture of more than 8 bits."""

    pixels: np.ndarray
    used: Used | None = None


def from_pil(
    image: Any,
    source: Any,
    levels: Sequence[float] | None = None,
    page: Page | None = None,
    bits: int | None = None,
    again: Callable[[], Any] | None = None,
    every_bit: bool = False,
) -> Decoded:
    """Return the pixels of a PIL image, which may not have been loaded yet.

    page: of a TIFF. bits: significant ones of a PNG. again: opens the file anew, for the lower bits of deep colours.
    Raises BadSample: image/empty, truncated, corrupt, non-finite.
    """
    if 0 in image.size:
        raise bad("image/empty", source, f"a picture of {image.width} x {image.height} pixels")
    used = None
    try:
        low = wide_colours(image, again) if every_bit or levels or bits or (page and page.stated) else None
        if page is not None:
            mend_tiles(image)
        image.load()
        turn = orientation(image)  # a conversion may lose the tag
        if low is not None:
            image, used = low(image, page, bits, levels, source)
        elif image.mode.startswith("I") or image.mode == "F":
            values, natural, stated = wide_grey(image, page, bits)
            grey, used = to_bytes(values, natural, stated, levels, source)
            image = _grey(~grey if page is not None and page.inverted else grey)
        elif page is not None and page.form == 2 and page.bits == 8:  # PIL reads signed bytes as unsigned
            image = _grey(np.asarray(image) ^ 0x80)
        pixels = np.array(rgb(image) if turn is None else rgb(image).transpose(turn))  # a copy that torch may write to
    except (MemoryError, BadSample):
        raise
    except Exception as error:  # OSError, SyntaxError, ValueError, struct.error, …: each format raises other types
        raise damage(str(image.format), source, error) from None
    return Decoded(pixels, used)


def has_alpha(image: Any) -> bool:
    """Return True for a PIL image with transparent parts."""
    transparent = "transparency" in image.info and image.mode in ("P", "L", "RGB")
    return transparent or image.mode in ("RGBA", "RGBa", "LA", "La", "PA")


def rgba(image: Any) -> Any:
    """Return a loaded PIL image of 8 bits with its transparency as RGBA."""
    if image.mode in ("PA", "La", "RGBa"):  # PIL converts these in two steps only
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    return image.convert("RGBA")


def rgb(image: Any) -> Any:
    """Return a loaded PIL image of 8 bits as RGB. Transparent parts show white."""
    from PIL import Image

    if has_alpha(image):
        image = rgba(image)
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    if image.mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.applyTransform(image, ImageCms.buildTransform(*profiles, "LAB", "RGB"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey(values: np.ndarray) -> Any:
    from PIL import Image

    return Image.fromarray(values)


def from_array(array: np.ndarray, levels: Sequence[float] | None = None) -> np.ndarray:
    """Return (H, W, 3) uint8 from (H, W) or (H, W, 1|3|4), of uint8, uint16, bool or floats in [0, 1].

    webdataset's decoders "rgb" and "torchrgb" give such floats. With ``levels`` numbers of any type are read. Raises
    BadSample: image/dtype, shape, empty, range.
    """
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype == np.uint16 or (levels is not None and array.dtype.kind in "iuf" and array.dtype != np.uint8):
        array = to_bytes(array, (0, 65535), None, levels, None)[0]
    elif array.dtype.kind == "f" and array.size:
        check_shares(array)
        array = to_bytes(array, (0, 1), None, None, None)[0]
    elif array.dtype != np.uint8:
        detail = f"pixels of {array.dtype}; expected uint8 (0 to 255) or floats (0 to 1), or levels=(BLACK, WHITE)"
        raise bad("image/dtype", None, detail)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise bad("image/shape", None, f"pixels of shape {array.shape}; expected (H, W) or (H, W, 3)")
    if array.size == 0:
        raise bad("image/empty", None, f"pixels of shape {array.shape}")
    if array.shape[2] == 4:
        alpha = array[..., 3:].astype(np.uint16)
        array = ((array[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return np.array(np.broadcast_to(array, (*array.shape[:2], 3)))


def check_shares(array: np.ndarray) -> None:
    """Raise BadSample image/range unless all floats lie in [0, 1]."""
    low, high = float(array.min()), float(array.max())  # NaN if any is NaN
    if not (low >= 0 and high <= 1):
        detail = f"float pixels from {low:g} to {high:g}; expected 0 to 1, uint8, or levels=(BLACK, WHITE)"
        raise bad("image/range", None, detail)


def orientation(image: Any) -> Any:
    """Return the turn that makes a photograph upright, or None. Damaged EXIF data turn nothing."""
    try:
        tag = image.getexif().get(ORIENTATION, 1)
    except Exception:
        return None
    if tag == 1:
        return None
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return turns.get(tag) if isinstance(tag, int) else None
