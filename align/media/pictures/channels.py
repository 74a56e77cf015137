"""Arrays of pixels with any number of channels, in 8 bits, 16 bits or floats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from align.media.pictures.levels import to_depth
from align.media.pictures.upright import check_shares
from align.media.reading import bad

TOP = {8: 255, 16: 65535, 32: 1}
"""The value of white by the bits of a row."""
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as PIL


def to_bits(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Return uint8 values as rows of other bits have them, white as white."""
    if bits == 8:
        return pixels
    return pixels.astype(np.uint16) * 257 if bits == 16 else (pixels / 255).astype(np.float32)


def round_to(values: np.ndarray, bits: int) -> np.ndarray:
    """Return float values in the type of a row."""
    if bits == 32:
        return values.astype(np.float32)
    return np.rint(values).astype(np.uint8 if bits == 8 else np.uint16)


def spread(pixels: np.ndarray, channels: int, bits: int) -> np.ndarray:
    """Return (H, W, channels) of grey or colours (H, W, 1|3|4)."""
    if pixels.shape[2] == channels:
        return pixels
    if channels == 1:
        return round_to(pixels[..., :3] @ np.asarray(LUMA), bits)[..., None]
    if channels == 4:
        colours = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
        return np.dstack([colours, np.full(pixels.shape[:2], TOP[bits], pixels.dtype)])
    return np.broadcast_to(pixels, (*pixels.shape[:2], channels))


def channels_last(array: np.ndarray, channels: int) -> np.ndarray:
    """Return (H, W, C) of an array that has ``channels`` first or last."""
    turned = array.ndim == 3 and array.shape[2] not in (channels, 1, 3, 4) and array.shape[0] == channels
    return array.transpose(1, 2, 0) if turned else array


def without_alpha(array: Any) -> Any:
    """Return the colours of an array (H, W, 4) or a tensor (4, H, W), and any other as it is."""
    if array.ndim != 3:
        return array
    if isinstance(array, np.ndarray):
        return array[..., :3] if array.shape[2] == 4 else array
    return array[:3] if array.shape[0] == 4 else array


def bands_of(array: np.ndarray, levels: Sequence[float] | None, channels: int, bits: int) -> np.ndarray:
    """Return (H, W, channels) of an array of numbers. Raises BadSample: image/dtype, shape, empty, range."""
    if array.ndim == 2:
        array = array[..., None]
    array = channels_last(array, channels)
    if array.ndim != 3 or (array.shape[2] != channels and not (channels in (1, 3) and array.shape[2] in (1, 3, 4))):
        detail = f"an array of shape {array.shape}; expected (H, W, {channels}) or ({channels}, H, W)"
        raise bad("image/shape", None, detail)
    if array.size == 0:
        raise bad("image/empty", None, f"pixels of shape {array.shape}")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.shape[2] != channels:
        array = array[..., :3]
    if array.dtype == bool:
        out = to_bits(array.astype(np.uint8) * 255, bits)
    elif array.dtype == np.uint8:
        out = to_bits(array, bits)
    else:
        natural = {"uint16": (0, 65535), "int16": (-32768, 32767)}.get(str(array.dtype))
        if levels is None and array.dtype.kind == "f":
            check_shares(array)
            natural = (0, 1)
        elif levels is None and natural is None:
            raise bad("image/dtype", None, f"values of {array.dtype} have no black and white: give levels")
        out = to_depth(array, natural, None, levels, None, bits)
    return np.array(spread(out, channels, bits))
