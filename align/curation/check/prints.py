"""Fingerprints. Of a picture: 128 bits that survive another size, format and quality, and its colours.

64 bits say which of the lowest frequencies are above their median (Zauner 2010, "Implementation and benchmarking of
perceptual image hash functions", section 3.2.1), 64 say where brightness rises from left to right (dHash).
"""

from __future__ import annotations

import zlib
from array import array
from typing import final

import numpy as np

from align.curation.check.findings import Place

SIDE = 32
WORDS = 8  # 16-bit words of a print
COLOURS = 4 * 4 * 3
_k, _n = np.arange(8)[:, None], np.arange(SIDE)[None]
COSINES = np.cos(np.pi * _k * (2 * _n + 1) / (2 * SIDE))  # (8, SIDE): the first rows of a DCT-II


def picture_print(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 -> (8,) uint16, the bits; (48,) uint8, the mean colours of 4 x 4 parts."""
    from PIL import Image
    from PIL.Image import Resampling

    image = Image.fromarray(pixels)
    grey = image.convert("L")
    small = np.asarray(grey.resize((SIDE, SIDE), Resampling.BOX), dtype=np.float64)
    low = (COSINES @ small @ COSINES.T).ravel()  # (64,) the lowest frequencies
    rows = np.asarray(grey.resize((9, 8), Resampling.BOX), dtype=np.int16)
    bits = np.concatenate([low > np.median(low[1:]), (np.diff(rows, axis=1) > 1).ravel()])  # (128,)
    colours = np.asarray(image.resize((4, 4), Resampling.BOX), dtype=np.uint8).ravel()
    return np.packbits(bits).view(np.uint16), colours


@final
class Prints:
    """The prints of many pictures (or sounds, or clouds) and where they are, 84 bytes each."""

    def __init__(self) -> None:
        self._bits, self._colours = bytearray(), bytearray()
        self._position, self._member, self._bytes = array("q"), array("i"), array("q")
        self._names: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._position)

    def add(self, found: tuple[np.ndarray, np.ndarray] | None, data: bytes, place: Place) -> None:
        """A print, if there is one, and the stored bytes that it is of."""
        if found is None:
            return
        bits, colours = found
        self._bits += bits.tobytes()
        self._colours += colours.tobytes()
        self._position.append(place.position)
        self._member.append(self._names.setdefault(place.member, len(self._names)))
        self._bytes.append(zlib.crc32(data) << 31 ^ len(data))

    def extend(self, other: Prints) -> None:
        """Put the pictures of another part of the set behind these."""
        names = list(other._names)
        self._bits += other._bits
        self._colours += other._colours
        self._position.extend(other._position)
        self._member.extend(self._names.setdefault(names[m], len(self._names)) for m in other._member)
        self._bytes.extend(other._bytes)

    @property
    def bits(self) -> np.ndarray:
        """(n, 8) uint16."""
        return np.frombuffer(bytes(self._bits), dtype=np.uint16).reshape(-1, WORDS)

    @property
    def colours(self) -> np.ndarray:
        """(n, 48) uint8."""
        return np.frombuffer(bytes(self._colours), dtype=np.uint8).reshape(-1, COLOURS)

    @property
    def content(self) -> np.ndarray:
        """(n,) int64: equal where the stored bytes are equal."""
        return np.array(self._bytes, dtype=np.int64)

    def where(self, i: int) -> tuple[int, str]:
        """(position, member) of picture i."""
        return self._position[i], list(self._names)[self._member[i]]
