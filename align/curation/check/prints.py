"""The fingerprints of many members, and where these are."""

from __future__ import annotations

import zlib
from array import array
from typing import final

import numpy as np

from align.curation.check.findings import Place

WORDS = 8  # 16-bit words of a print
LEVELS = 48  # bytes of its coarse levels, such as colours


@final
class Prints:
    """Prints of members of one medium and their places, 84 bytes each."""

    def __init__(self) -> None:
        self._bits, self._colours = bytearray(), bytearray()
        self._position, self._member, self._bytes = array("q"), array("i"), array("q")
        self._names: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._position)

    def add(self, found: tuple[np.ndarray, np.ndarray] | None, data: bytes, place: Place) -> None:
        """Add the print, if there is one, of the stored bytes ``data``."""
        if found is None:
            return
        bits, colours = found
        self._bits += bits.tobytes()
        self._colours += colours.tobytes()
        self._position.append(place.position)
        self._member.append(self._names.setdefault(place.member, len(self._names)))
        self._bytes.append(zlib.crc32(data) << 31 ^ len(data))

    def extend(self, other: Prints) -> None:
        """Add the prints of the next part of the set."""
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
        return np.frombuffer(bytes(self._colours), dtype=np.uint8).reshape(-1, LEVELS)

    @property
    def content(self) -> np.ndarray:
        """(n,) int64: checksum and size of the stored bytes, equal where these are."""
        return np.array(self._bytes, dtype=np.int64)

    def where(self, i: int) -> tuple[int, str]:
        """Return (position, member) of print i."""
        return self._position[i], list(self._names)[self._member[i]]
