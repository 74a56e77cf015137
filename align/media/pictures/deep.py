"""Pictures of more than 8 bits in PIL: their values, the range of their type, and the range that their file states."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import numpy as np

from align.media.pictures.levels import Range, Used, to_bytes
from align.media.pictures.tiff import PLANAR, SAMPLES, Page

NATIVE, SWAPPED = ("L", "B") if sys.byteorder == "little" else ("B", "L")
Lower = Callable[[Any, "Page | None", "int | None", "Sequence[float] | None", Any], tuple[Any, Used]]


def significant_bits(file: BinaryIO) -> int | None:
    """Return the largest number of bits that the sBIT chunk of a 16-bit PNG calls significant, or None.
    The file is read up to its first pixels."""
    file.seek(24)
    if file.read(1) != b"\x10":
        return None
    at, found = 8, None
    while True:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IDAT":
            return found
        length, name = struct.unpack(">I4s", head)
        if name == b"sBIT" and 1 <= length <= 4:
            found = max(file.read(length)[: 3 if length > 2 else 1], default=None)
        at += 12 + length


def mend_tiles(image: Any) -> None:
    """Correct PIL's layout of the bytes of wide greys where it is wrong.

    libtiff returns them in the machine's byte order. PIL expects the file's order, so a compressed big-endian TIFF
    would decode as noise. For a file of one sample a pixel that is stored in planes, PIL takes the first letter of the
    mode for the layout.
    """
    right = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}
    tiles = getattr(image, "tile", ())
    if not tiles:
        return
    if tiles[0].codec_name == "libtiff" and tiles[0].args[0] in right:
        image.tile = [tile._replace(args=(right[tile.args[0]], *tile.args[1:])) for tile in tiles]
    if tiles[0].codec_name == "raw" and image.tag_v2.get(PLANAR) == 2 and image.tag_v2.get(SAMPLES, 1) == 1:
        image.tag_v2[PLANAR] = 1
        image._setup()  # makes the tiles again


def wide_grey(image: Any, page: Page | None, bits: int | None) -> tuple[np.ndarray, Range, Range | None]:
    """Return (values (H, W), range of their type, range by the file or None) of a loaded image of mode I or F."""
    values = np.asarray(image)
    if image.mode == "F":
        return values, (0, 1), page.stated if page is not None else None
    if image.mode.startswith("I;"):
        values = values.astype(np.uint16, copy=False)
    elif page is None:  # 16 bits in an older PIL
        values = values.clip(0, 65535).astype(np.uint16)
    elif page.bits == 16:
        values = values.astype(np.int16)
    elif page.form == 1:
        values = values.view(np.uint32)
    type = np.iinfo(values.dtype)
    return values, (type.min, type.max), stated_range(values, page, bits)


def wide_colours(image: Any, again: Callable[[], Any] | None) -> Lower | None:
    """Return the function that scales 16-bit colours to 8 bits, or None for other pictures.

    Call this before the image is loaded, and the returned function after.

    again: opens the image's file anew.
    """
    join = every_bit_of(image, again)
    if join is None:
        return None

    def lower(
        image: Any, page: Page | None, bits: int | None, levels: Sequence[float] | None, source: Any
    ) -> tuple[Any, Used]:
        from PIL import Image

        values = join(image)
        colours, used = to_bytes(values, (0, 65535), stated_range(values, page, bits), levels, source)
        out = Image.fromarray(np.dstack([colours, np.asarray(image)[..., 3:]]))
        out.info.update(image.info)
        return out, used

    return lower


def every_bit_of(image: Any, again: Callable[[], Any] | None) -> Callable[[Any], np.ndarray] | None:
    """Return the function that gives the 16-bit colours (H, W, 3) of a loaded image, or None for other pictures.

    PIL alone would drop the lower eight bits. Call this before the image is loaded, and the returned function after.
    """
    tiles = getattr(image, "tile", None)
    if not tiles or again is None:
        return None
    args = tiles[0].args
    mode, _, depth = (args if isinstance(args, str) else str(args[0])).partition(";")
    if mode not in ("RGB", "RGBX", "RGBA") or depth not in ("16B", "16L", "16N"):
        return None
    other = f"{mode};16{ {'B': 'L', 'L': 'B', 'N': SWAPPED}[depth[-1]] }"

    def join(image: Any) -> np.ndarray:
        with again() as second:  # in the other byte order PIL keeps the lower eight bits
            second.tile = [t._replace(args=other if isinstance(args, str) else (other, *args[1:])) for t in second.tile]
            second.load()
            low = np.asarray(second)
        return np.asarray(image)[..., :3].astype(np.uint16) << 8 | low[..., :3]

    return join


def stated_range(values: np.ndarray, page: Page | None, bits: int | None) -> Range | None:
    """Return the range that the file states, or None.

    PNG requires values of few significant bits to be scaled up to all 16 (11.3.2.7). Then the upper bits hold the whole
    value, and the range is that of 16 bits. A picture was not scaled up if none of its values exceeds the significant
    bits and some value has bits that scaling would have left zero.
    """
    if page is not None:
        return page.stated
    if bits is None or not 0 < bits < 16 or values.size == 0 or int(values.max()) >= 1 << bits:
        return None
    return (0, (1 << bits) - 1) if int(np.bitwise_or.reduce(values, axis=None)) & ((1 << (16 - bits)) - 1) else None
