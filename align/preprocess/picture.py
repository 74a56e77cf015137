"""One picture file, or picture in memory, to upright RGB: formats restricted, size refused by the header."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from align.preprocess.base import bad, opened
from align.values import BadSample

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")  # each further parser is a further door for damaged files
ORIENTATION = 0x0112  # the EXIF tag


def read_picture(source: Any, max_pixels: int) -> Tensor:
    """(3, H, W) uint8 from bytes, a path, a PIL image, an ndarray (H, W), (H, W, 1|3|4) or a tensor (1|3|4, H, W).

    Grey, palette, 16-bit and CMYK become RGB; what is transparent shows white; EXIF rotation is applied; of an
    animation the first frame counts. Raises BadSample: image/empty, not-an-image, too-large, truncated, corrupt, shape,
    dtype.
    """
    if isinstance(source, bytes | bytearray | memoryview | str | Path):
        pixels = from_file(source, max_pixels)
    elif isinstance(source, Tensor):
        if source.ndim == 3 and source.shape[0] not in (1, 3, 4):
            raise bad("image/shape", None, f"tensor of shape {tuple(source.shape)}; expected (3, H, W)")
        array = source.detach().cpu().numpy()
        pixels = from_array(array.transpose(1, 2, 0) if array.ndim == 3 else array)
    elif isinstance(source, np.ndarray):
        pixels = from_array(source)
    else:
        from PIL import Image

        if not isinstance(source, Image.Image):
            raise TypeError(
                f"an image is read from bytes, a path, a PIL image, an ndarray or a tensor, not {type(source).__name__}"
            )
        if source.width * source.height > max_pixels:
            raise too_large(None, source.size, max_pixels)
        pixels = from_pil(source, None)
    return torch.from_numpy(pixels).permute(2, 0, 1)  # (3, H, W), channels last in memory, as the resizing likes it


def from_file(source: Any, max_pixels: int) -> np.ndarray:
    """(H, W, 3) uint8 from an encoded file."""
    from PIL import Image, UnidentifiedImageError

    with opened(source) as file:
        head = file.read(12)
        if not head:
            raise bad("image/empty", source, "no bytes")
        if head[:4] == b"RIFF" and int.from_bytes(head[4:8], "little") + 8 > file.seek(0, 2):
            raise bad("image/truncated", source, "a .webp that announces more bytes")
        file.seek(0)
        try:
            image = Image.open(file, formats=FORMATS)
        except UnidentifiedImageError:
            kinds = ", ".join(FORMATS)
            raise bad("image/not-an-image", source, f"none of {kinds}; it starts with {head!r}") from None
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise bad("image/too-large", source, str(error)) from None
        except Exception as error:
            raise damaged(source, error) from None
        with image:
            if image.width * image.height > max_pixels:
                raise too_large(source, image.size, max_pixels)
            if image.format == "JPEG" and image.mode in ("RGB", "L") and orientation(image) is None:
                file.seek(0)
                pixels = from_jpeg(file.read(), source)
                if pixels is not None:
                    return pixels
                file.seek(0)
                return from_pil(Image.open(file, formats=FORMATS), source)
            return from_pil(image, source)


def from_jpeg(data: bytes, source: Any) -> np.ndarray | None:
    """(H, W, 3) uint8 as PIL decodes it, to the bit, faster; None where simplejpeg warns or does not know it."""
    import simplejpeg

    try:
        return simplejpeg.decode_jpeg(data, "RGB")
    except ValueError as error:
        if "Premature end" in str(error):
            raise bad("image/truncated", source, "a .jpg that ends before its picture does") from None
        return None


def from_pil(image: Any, source: Any) -> np.ndarray:
    """(H, W, 3) uint8 from a PIL image, whose pixels may still be in its file."""
    from PIL import Image

    if 0 in image.size:
        raise bad("image/empty", source, f"a picture of {image.width} x {image.height} pixels")
    try:
        image.load()
        transparent = "transparency" in image.info and image.mode in ("P", "L", "RGB")
        if transparent or image.mode in ("RGBA", "RGBa", "LA", "La", "PA"):
            if image.mode in ("PA", "La", "RGBa"):  # PIL converts these in two steps only
                image = image.convert("LA" if image.mode == "La" else "RGBA")
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image).convert("RGB")
        elif image.mode.startswith("I"):  # 16 bits: the upper eight
            wide = np.asarray(image).astype(np.int64).clip(0, 65535)
            image = Image.fromarray((wide >> 8).astype(np.uint8)).convert("RGB")
        elif image.mode != "RGB":
            image = image.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # OSError, SyntaxError, ValueError, struct.error, ...: each format has its own
        raise damaged(source, error) from None
    turn = orientation(image)
    return np.array(image if turn is None else image.transpose(turn))  # a copy that torch may write to


def from_array(array: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 from (H, W) or (H, W, 1|3|4), of uint8, uint16, bool, or floats in [0, 1]."""
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    elif array.dtype.kind == "f":
        array = from_shares(array)
    elif array.dtype != np.uint8:
        raise bad("image/dtype", None, f"pixels of {array.dtype}; expected uint8 (0 to 255) or floats (0 to 1)")
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


def from_shares(array: np.ndarray) -> np.ndarray:
    """uint8 from floats in [0, 1], as webdataset's decoders "rgb" and "torchrgb" give pixels."""
    if not array.size:
        return array.astype(np.uint8)
    low, high = float(array.min()), float(array.max())  # of NaN is NaN
    if not (low >= 0 and high <= 1):
        raise bad("image/range", None, f"float pixels from {low:g} to {high:g}; expected 0 to 1, or uint8")
    return np.rint(array * 255).astype(np.uint8)


def orientation(image: Any) -> Any:
    """How to turn a photograph upright, or None; damaged EXIF turns nothing."""
    from PIL.Image import Transpose

    try:
        tag = image.getexif().get(ORIENTATION, 1)
    except Exception:
        return None
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


def too_large(source: Any, size: tuple[int, int], max_pixels: int) -> BadSample:
    return bad("image/too-large", source, f"{size[0]} x {size[1]} pixels, at most {max_pixels} are decoded")


def damaged(source: Any, error: Exception) -> BadSample:
    detail = " ".join(str(error).split()) or type(error).__name__
    return bad("image/truncated" if "truncated" in detail.lower() else "image/corrupt", source, detail)
