"""One picture, from a file or from memory, to upright RGB: few formats, and the size checked in the header."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from align.media.pictures import avif, tiff
from align.media.pictures.deep import significant_bits
from align.media.pictures.formats import HEAD, check_whole, damage, kind_of, refusal, truncation
from align.media.pictures.tiff import Cut, Page
from align.media.pictures.upright import Decoded, from_array, from_pil, orientation
from align.media.reading import bad, open_source
from align.values import BadSample


class Opened(NamedTuple):
    """Picture file whose header has been read: PIL's image, the format, and the first page of a TIFF."""

    image: Any
    kind: str
    page: Page | None
    file: BinaryIO


def read_picture(source: Any, max_pixels: int, levels: Sequence[float] | None = None) -> Tensor:
    """Read (3, H, W) uint8 from bytes, a path, a PIL image, an array (H, W), (H, W, 1|3|4) or a tensor (1|3|4, H, W).

    Grey, palette, CMYK and LAB become RGB. Transparent parts show white. EXIF rotation is applied. An animation gives
    its first frame, a TIFF its first page. More than 8 bits are scaled by ``levels.to_bytes``. Raises BadSample:
    image/empty, not-an-image, format, too-large, truncated, corrupt, non-finite, shape, dtype.
    """
    if isinstance(source, bytes | bytearray | memoryview | str | Path):
        pixels = from_file(source, max_pixels, levels)
    elif isinstance(source, Tensor):
        if source.ndim == 3 and source.shape[0] not in (1, 3, 4):
            raise bad("image/shape", None, f"tensor of shape {tuple(source.shape)}; expected (3, H, W)")
        array = source.detach().cpu().numpy()
        pixels = from_array(array.transpose(1, 2, 0) if array.ndim == 3 else array, levels)
    elif isinstance(source, np.ndarray):
        pixels = from_array(source, levels)
    else:
        pixels = from_pil(source, None, levels, check_pil(source, max_pixels)).pixels
    return torch.from_numpy(pixels).permute(2, 0, 1)  # (3, H, W), channels last in memory, which resizing prefers


def check_pil(image: Any, max_pixels: int) -> Page | None:
    """Return the page of a PIL image that was a TIFF, else None. Raises TypeError for another object, and BadSample."""
    from PIL import Image

    if not isinstance(image, Image.Image):
        raise TypeError(
            f"an image is read from bytes, a path, a PIL image, an ndarray or a tensor, not {type(image).__name__}"
        )
    if image.width * image.height > max_pixels:
        raise too_large(None, image.size, max_pixels)
    tags = getattr(image, "tag_v2", None)
    return tiff.describe(tags) if tags is not None else None


def from_file(source: Any, max_pixels: int, levels: Sequence[float] | None = None) -> np.ndarray:
    """Read (H, W, 3) uint8 from an encoded file."""
    return decode(source, max_pixels, levels).pixels


def decode(source: Any, max_pixels: int, levels: Sequence[float] | None = None, *, every_bit: bool = False) -> Decoded:
    """Return the pixels of an encoded file.
    every_bit: compute ``used`` for 16-bit colours too, from all their bits, at twice the cost."""
    with open_source(source) as file:
        image, kind, page, _ = _open(file, source, max_pixels)
        with image:
            if kind == "JPEG":
                if image.format == "JPEG" and image.mode in ("RGB", "L") and orientation(image) is None:
                    file.seek(0)
                    pixels = from_jpeg(file.read(), source)
                    if pixels is not None:
                        return Decoded(pixels)
                    image = open_image(file, kind)
                return from_pil(image, source)  # its decoder finds a cut itself
            check_whole(kind, file, source)
            bits = significant_bits(file) if kind == "PNG" else None
            return from_pil(image, source, levels, page, bits, lambda: open_image(file, kind), every_bit)


@contextmanager
def open_picture(source: Any, max_pixels: int | None = None) -> Iterator[Opened]:
    """Open a picture file and check its header. Raises BadSample as ``read_picture``."""
    with open_source(source) as file:
        found = _open(file, source, max_pixels)
        with found.image:
            yield found


def _open(file: BinaryIO, source: Any, max_pixels: int | None) -> Opened:
    from PIL import Image, UnidentifiedImageError

    head = file.read(HEAD)
    if not head:
        raise bad("image/empty", source, "no bytes")
    kind = kind_of(head)
    if kind is None:
        raise refusal(head, source)
    page = None
    try:
        page = _check_header(kind, file, source, max_pixels) if kind in ("TIFF", "AVIF") else None
        file.seek(0)
        image = Image.open(file, formats=(kind,))
    except BadSample:
        raise
    except Cut:
        raise truncation(kind, source) from None
    except UnidentifiedImageError:
        raise _unread(kind, file, source, page) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise bad("image/too-large", source, str(error)) from None
    except Exception as error:  # OSError, SyntaxError, ValueError, struct.error, …: each format raises other types
        check_whole(kind, file, source)
        raise damage(kind, source, error) from None
    if max_pixels is not None and image.width * image.height > max_pixels:
        image.close()
        raise too_large(source, image.size, max_pixels)
    return Opened(image, kind, page, file)


def is_deep(data: bytes) -> bool:
    """Return True if a file's header says that pixels have more than 8 bits, and False if it says nothing."""
    kind = kind_of(data[:HEAD])
    try:
        return tiff.read_page(BytesIO(data)).bits > 8 if kind == "TIFF" else kind == "PNG" and data[24] == 16
    except (Cut, ValueError, IndexError):
        return False


def open_image(file: BinaryIO, kind: str) -> Any:
    """Return PIL's image of an open file of a known format, not yet loaded."""
    from PIL import Image

    file.seek(0)
    return Image.open(file, formats=(kind,))


def _check_header(kind: str, file: BinaryIO, source: Any, max_pixels: int | None) -> Page | None:
    """Return the first page of a TIFF, or None. Raises BadSample for a picture that no parser should open."""
    if kind == "AVIF":
        size = avif.largest_frame(file)
        if max_pixels is not None and size[0] * size[1] > max_pixels:
            raise too_large(source, size, max_pixels)
        return None
    page = tiff.read_page(file)
    if max_pixels is not None and page.width * page.height > max_pixels:
        raise too_large(source, (page.width, page.height), max_pixels)
    if max_pixels is not None and page.tile > max(max_pixels, tiff.TILE):
        raise bad("image/too-large", source, f"a tile of {page.tile} pixels, at most {max_pixels} are decoded")
    if page.unread:
        raise bad("image/format", source, page.unread)
    return page


def _unread(kind: str, file: BinaryIO, source: Any, page: Page | None) -> BadSample:
    """Return the reason for a file of a known format that Pillow does not open."""
    from PIL import features

    if kind in ("AVIF", "WEBP") and not features.check(kind.lower()):
        return bad("image/format", source, f"{kind}, which this Pillow was built without; its wheels on PyPI have it")
    check_whole(kind, file, source)
    if page is not None:
        detail = f"{page.words}, which Pillow does not read; write 8 or 16 bits, grey or RGB, or float32 grey"
        return bad("image/format", source, detail)
    return bad("image/corrupt", source, f"a {kind} file whose header cannot be read")


def from_jpeg(data: bytes, source: Any) -> np.ndarray | None:
    """Read (H, W, 3) uint8 to the bit as PIL decodes it, but faster.
    Returns None where simplejpeg warns or does not know the file. Raises BadSample: image/truncated."""
    import simplejpeg

    try:
        return simplejpeg.decode_jpeg(data, "RGB")
    except ValueError as error:
        if "Premature end" in str(error):
            raise truncation("JPEG", source) from None
        return None


def too_large(source: Any, size: tuple[int, int], max_pixels: int) -> BadSample:
    """Return the reason for a picture of too many pixels. size: (width, height)."""
    return bad("image/too-large", source, f"{size[0]} x {size[1]} pixels, at most {max_pixels} are decoded")
