"""Pictures of more than 8 bits as PIL holds them: their values, the range of their type, and what their file states."""

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
    """The most bits that the sBIT chunk of a PNG of 16 bits calls significant, or None; the file is read to its first
    pixels."""
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
    """Tell PIL how the bytes of wide greys lie, where it is wrong.

    libtiff has put them in the machine's order, which PIL does not expect of a big-endian file: such a compressed TIFF
    would decode as noise. Of "planes" of a single sample PIL takes the name of the mode's first letter for its layout.
    """
    right = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}
    tiles = getattr(image, "tile", ())
    if not tiles:
        return
    if tiles[0].codec_name == "libtiff" and tiles[0].args[0] in right:
        image.tile = [tile._replace(args=(right[tile.args[0]], *tile.args[1:])) for tile in tiles]
    if tiles[0].codec_name == "raw" and image.tag_v2.get(PLANAR) == 2 and image.tag_v2.get(SAMPLES, 1) == 1:
        image.tag_v2[PLANAR] = 1
        image._setup()  # makes the tiles anew


def wide_grey(image: Any, page: Page | None, bits: int | None) -> tuple[np.ndarray, Range, Range | None]:
    """(values (H, W), the range of their type, the range that the file states) of a loaded image of mode I or F."""
    values = np.asarray(image)
    if image.mode == "F":
        return values, (0, 1), page.stated if page is not None else None
    if image.mode.startswith("I;"):
        values = values.astype(np.uint16, copy=False)
    elif page is None:  # an older PIL's 16 bits
        values = values.clip(0, 65535).astype(np.uint16)
    elif page.bits == 16:
        values = values.astype(np.int16)
    elif page.form == 1:
        values = values.view(np.uint32)
    type = np.iinfo(values.dtype)
    return values, (type.min, type.max), _stated(values, page, bits)


def wide_colours(image: Any, again: Callable[[], Any] | None) -> Lower | None:
    """Return the function that lowers 16-bit colours to 8 bits; None for other pictures. PIL cuts the lower eight off.

    Asked before the image is loaded, used after. again: opens its file anew.
    """
    tiles = getattr(image, "tile", None)
    if not tiles or again is None:
        return None
    args = tiles[0].args
    mode, _, depth = (args if isinstance(args, str) else str(args[0])).partition(";")
    if mode not in ("RGB", "RGBX", "RGBA") or depth not in ("16B", "16L", "16N"):
        return None
    other = f"{mode};16{ {'B': 'L', 'L': 'B', 'N': SWAPPED}[depth[-1]] }"

    def lower(
        image: Any, page: Page | None, bits: int | None, levels: Sequence[float] | None, source: Any
    ) -> tuple[Any, Used]:
        from PIL import Image

        with again() as second:  # with the order of the bytes turned round, PIL keeps the lower eight
            second.tile = [t._replace(args=other if isinstance(args, str) else (other, *args[1:])) for t in second.tile]
            second.load()
            low = np.asarray(second)
        high = np.asarray(image)  # (H, W, 3|4)
        values = high[..., :3].astype(np.uint16) << 8 | low[..., :3]
        colours, used = to_bytes(values, (0, 65535), _stated(values, page, bits), levels, source)
        out = Image.fromarray(np.dstack([colours, high[..., 3:]]))
        out.info.update(image.info)
        return out, used

    return lower


def _stated(values: np.ndarray, page: Page | None, bits: int | None) -> Range | None:
    """The range that the file states.

    PNG wants values of few significant bits scaled up to all 16 (11.3.2.7), where the upper ones say everything. A
    picture without a value beyond its significant bits, but with bits below those that scaling leaves, was not.
    """
    if page is not None:
        return page.stated
    if bits is None or not 0 < bits < 16 or values.size == 0 or int(values.max()) >= 1 << bits:
        return None
    return (0, (1 << bits) - 1) if int(np.bitwise_or.reduce(values, axis=None)) & ((1 << (16 - bits)) - 1) else None
