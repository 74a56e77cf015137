"""Boxes: the place of a part in its picture, four fractions of its sides in JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, final

from align.media.medium import Examined, Medium
from align.values import BadSample

SUFFIX = "box"
"""Format of the rows of ``json:regions/box``. No file has it."""
SLACK = 1e-6  # beyond a side, which is rounding


@final
class BoxFormat(Medium):
    """Boxes [left, top, right, bottom] as fractions of the picture's width and height, from its top left corner."""

    name = "box"
    suffixes = (SUFFIX,)

    def read(self, source: bytes | Path) -> tuple[float, float, float, float]:
        """Return left, top, right, bottom. Raises BadSample as ``read_box``."""
        data = source.read_bytes() if isinstance(source, Path) else source
        try:
            return read_box(json.loads(data))
        except ValueError:
            raise BadSample("box", "no JSON") from None

    def examine(self, data: bytes, suffix: str, modality: str) -> Examined:
        self.read(data)
        return Examined()


def read_box(value: Any) -> tuple[float, float, float, float]:
    """Return left, top, right, bottom, each from 0 to 1.

    Raises BadSample (box) unless ``value`` holds four finite numbers with 0 <= left < right <= 1 and
    0 <= top < bottom <= 1.
    """
    given = value.tolist() if hasattr(value, "tolist") else value
    numbers = [x for x in given if isinstance(x, int | float) and not isinstance(x, bool)] if _is_list(given) else []
    if len(numbers) != 4 or len(given) != 4 or not all(map(math.isfinite, numbers)):
        raise BadSample("box", f"{str(given)[:60]}: a box is [left, top, right, bottom], four finite numbers")
    left, top, right, bottom = (min(max(float(x), 0.0), 1.0) for x in numbers)
    if any(abs(x - y) > SLACK for x, y in zip(numbers, (left, top, right, bottom), strict=True)):
        raise BadSample("box", f"{numbers} leaves the picture: its numbers are fractions of width and height, 0 to 1")
    if not (left < right and top < bottom):
        raise BadSample("box", f"{numbers} is empty: left < right and top < bottom")
    return left, top, right, bottom


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


BOX = BoxFormat()
