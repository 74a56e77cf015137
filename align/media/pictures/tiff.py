"""Directory of a TIFF, read without its pixels: size, bits, stated range, number of pages, missing bytes.

TIFF 6.0 (Aldus 1992) and BigTIFF. Pillow decodes the pixels, after this file has found that it can.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import ceil, isfinite
from typing import Any, BinaryIO, NamedTuple

import numpy as np

STARTS = (b"II\x2a\x00", b"MM\x00\x2a", b"II\x2b\x00", b"MM\x00\x2b")
TILE = 1 << 22  # pixels of a tile that are allowed under any limit
MOST_TAGS = 4096  # of a page, of which writers use about twenty
MOST_PAGES = 1000  # pages that are counted and compared with the file's length
TYPES = {1: "u1", 2: "S1", 3: "u2", 4: "u4", 5: "u8", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 10: "u8"}
TYPES |= {11: "f4", 12: "f8", 13: "u4", 16: "u8", 17: "i8", 18: "u8"}  # 5 and 10 are fractions, not used here

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION = 256, 257, 258, 259, 262, 270
STRIPS, SAMPLES, ROWS, STRIP_BYTES, LEAST, MOST, PLANAR = 273, 277, 278, 279, 280, 281, 284
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, FORM, SIGNED_LEAST, SIGNED_MOST = 322, 323, 324, 325, 339, 340, 341
SUBFILE, DNG = 254, 50706
PACKINGS = {33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 34887: "LERC", 50001: "WebP", 50002: "JPEG XL"}
FORMS = {1: "unsigned", 2: "signed", 3: "float", 4: "untyped", 5: "complex", 6: "complex float"}

Tags = Mapping[int, Any]


class Cut(Exception):
    """File that ends before its header says."""


class Page(NamedTuple):
    """First page of a TIFF.

    bits: of a sample. samples: of a pixel. form: of a sample, a key of FORMS. tile: pixels of the largest piece that is
    decoded at a time. stated: values of black and white, if the file states them. unread: why Pillow must not read it,
    or "".
    """

    width: int
    height: int
    bits: int
    samples: int
    form: int
    inverted: bool
    tile: int
    stated: tuple[float, float] | None
    unread: str = ""

    @property
    def words(self) -> str:
        """The page in words, for a message."""
        return f"a TIFF of {self.samples} x {self.bits}-bit {FORMS.get(self.form, 'unknown')} samples a pixel"


def read_page(file: BinaryIO) -> Page:
    """Read the first page. Raises Cut for a directory that is cut, ValueError for one that no writer makes."""
    file.seek(0)
    start = file.read(4)
    for tags, _ in _directories(file):
        page = describe(tags)
        planes = _value(tags, PLANAR, 1) == 2 and page.samples > 1
        packing = _value(tags, COMPRESSION, 1)
        if start == b"MM\x00\x2b":
            return page._replace(unread="a BigTIFF of big-endian numbers; write it little-endian")
        if _value(tags, SUBFILE) & 1 or DNG in tags:
            return page._replace(unread="a camera's raw picture, which begins with a preview; develop it to a TIFF")
        if packing in PACKINGS:
            return page._replace(unread=f"compressed as {PACKINGS[packing]}; write it with deflate or LZW")
        # Pillow would read each byte of a plane as a pixel, and the first of several grey bands as the picture.
        if planes and ((page.bits > 8 and packing == 1) or _value(tags, PHOTOMETRIC, 1) < 2):
            return page._replace(unread=f"{page.words} in planes; write each pixel's samples together")
        return page
    raise ValueError("a TIFF without a page")


def count_pages(file: BinaryIO) -> int:
    """Return the number of pages, at most MOST_PAGES. Raises as ``read_page``, and Cut where pixels are missing."""
    n = 0
    for tags, size in _directories(file):
        _check_pieces(tags, size)
        n += 1
    return n


def describe(tags: Tags) -> Page:
    """Return the page that tags describe, given as by ``_directories`` or by Pillow's ``tag_v2``."""
    width, height = _value(tags, WIDTH), _value(tags, HEIGHT)
    if not (width > 0 and height > 0):
        raise ValueError(f"a TIFF of {width} x {height} pixels")
    tile = _value(tags, TILE_WIDTH) * _value(tags, TILE_HEIGHT)
    bits = max(_values(tags, BITS), default=1)
    if not 0 <= bits <= 64:
        raise ValueError(f"a TIFF of {bits:g}-bit samples")
    return Page(
        width=width,
        height=height,
        bits=int(bits),
        samples=_value(tags, SAMPLES, 1),
        form=_value(tags, FORM, 1),
        inverted=_value(tags, PHOTOMETRIC, 1) == 0,
        tile=tile,
        stated=_stated_range(tags, int(bits)),
    )


def _stated_range(tags: Tags, bits: int) -> tuple[float, float] | None:
    """Return (black, white) from the first tags that state them, or None.

    In order: SMin- and SMaxSampleValue, Min- and MaxSampleValue, OME's SignificantBits, and a number of bits that no
    integer type has.
    """
    for least, most in ((SIGNED_LEAST, SIGNED_MOST), (LEAST, MOST)):
        high = _values(tags, most)
        if high:
            low = _values(tags, least) or [0]
            found = float(min(low)), float(max(high))
            if found[0] < found[1] and all(map(isfinite, found)):
                return found
    text = tags.get(DESCRIPTION, b"")
    text = text if isinstance(text, bytes) else str(text).encode("utf-8", "replace")
    if b"<OME" in text and (found := re.search(rb'SignificantBits="(\d{1,2})"', text)) is not None:
        bits = min(bits, int(found[1]))
    return (0.0, 2.0**bits - 1) if bits not in (8, 16, 32, 64) and bits > 0 else None


def _directories(file: BinaryIO) -> Iterator[tuple[dict[int, Any], int]]:
    """Yield (tags, bytes of the file) of each page."""
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(16)
    order, big = "<" if head[:2] == b"II" else ">", head[2:4] in (b"\x2b\x00", b"\x00\x2b")
    at = _integer(head[8:16] if big else head[4:8], order, 8 if big else 4)
    seen: set[int] = set()
    while at and at not in seen and len(seen) < MOST_PAGES:
        seen.add(at)
        tags, at = _directory(file, at, order, big, size)
        yield tags, size


def _directory(file: BinaryIO, at: int, order: str, big: bool, size: int) -> tuple[dict[int, Any], int]:
    """Return (tag -> its values, place of the next directory or 0)."""
    width = 8 if big else 4  # bytes of an offset
    short = 8 if big else 2  # bytes of the number of entries
    file.seek(min(at, size))
    start = file.read(short)
    n = _integer(start, order, short)
    numbers = [(name, f"{order}u{size}") for name, size in (("tag", 2), ("type", 2), ("count", width))]
    entry = np.dtype([*numbers, ("value", f"V{width}")])
    if n > MOST_TAGS:
        raise ValueError(f"a TIFF with {n} tags on a page")
    data = file.read(n * entry.itemsize)
    following = _integer(file.read(width), order, width)  # raises Cut if anything before it is missing
    tags: dict[int, Any] = {}
    room = size
    for tag, type, count, value in np.frombuffer(data, entry).tolist():
        kind = TYPES.get(type)
        if kind is None or tag in tags:
            continue
        dtype = np.dtype(order + kind)
        length = count * dtype.itemsize
        if length > width:
            place = _integer(value, order, width)
            if place + length > size:
                raise Cut
            room -= length
            if room < 0:
                raise ValueError("a TIFF whose tags hold more bytes than the file")
            if tag not in WANTED:
                tags[tag] = ()
                continue
            file.seek(place)
            value = file.read(length)
        tags[tag] = value[:length] if kind == "S1" else np.frombuffer(value[:length], dtype)
    return tags, following


def _check_pieces(tags: Tags, size: int) -> None:
    """Raise Cut where strips or tiles are missing, or lie beyond the end of the file."""
    tiled = TILES in tags
    places = np.asarray(tags.get(TILES if tiled else STRIPS, ()), np.float64)
    lengths = np.asarray(tags.get(TILE_BYTES if tiled else STRIP_BYTES, ()), np.float64)
    width, height = _value(tags, WIDTH), _value(tags, HEIGHT)
    if not len(places) or not width or not height:
        return  # JPEG of the old kind, or no picture: the decoder reports it
    if tiled:
        across, down = _value(tags, TILE_WIDTH), _value(tags, TILE_HEIGHT)
        if not across or not down:
            raise ValueError("a TIFF whose tiles have no size")
        pieces = ceil(width / across) * ceil(height / down)
    else:
        pieces = ceil(height / max(1, min(height, _value(tags, ROWS, height))))
    pieces *= _value(tags, SAMPLES, 1) if _value(tags, PLANAR, 1) == 2 else 1
    ends = places + lengths if len(lengths) == len(places) else places
    if len(places) < pieces or ends.max() > size:
        raise Cut
    if absent := int((places[:pieces] == 0).sum()):  # Pillow would decode other bytes in their place
        raise ValueError(f"a sparse TIFF: {absent} of its {pieces} pieces were left out; write them too")


WANTED = frozenset(
    {STRIPS, STRIP_BYTES, TILES, TILE_BYTES, BITS, FORM, LEAST, MOST, SIGNED_LEAST, SIGNED_MOST, DESCRIPTION}
)
"""Tags whose values are used, and may be longer than an entry."""


def _integer(data: bytes, order: str, width: int) -> int:
    """Return the integer of ``width`` bytes at the start of ``data``. Raises Cut where they are missing."""
    if len(data) < width:
        raise Cut
    return int.from_bytes(data, "little" if order == "<" else "big")


def _values(tags: Tags, tag: int) -> list[float]:
    """Return the numbers of a tag, none for a tag that is missing."""
    value = tags.get(tag, ())
    return [float(x) for x in (value if hasattr(value, "__len__") and not isinstance(value, str | bytes) else [value])]


def _value(tags: Tags, tag: int, default: int = 0) -> int:
    """Return the first number of a tag, or the default. Raises ValueError for one that is not finite."""
    value = next(iter(_values(tags, tag)), default)
    if not isfinite(value):
        raise ValueError(f"a TIFF whose tag {tag} is {value}")
    return int(value)
