"""Values of more than 8 bits to 0 … 255, or to 16 bits or floats: the values of black and white, and who states them.

For 8 bits the range is cut in 256 equal steps, so 16 bits keep their upper eight. For 16 bits and floats black is 0 and
white is 65535 or 1, and the range of the type is kept to the bit. Values outside become black or white.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from align.media.reading import bad

ROWS = 1 << 20  # values that are converted at a time
STEPS = 16  # a picture with a smaller spread of values is of one colour rather than dark
SHARE = 4  # a picture is dark if it uses less than a quarter of its range

Range = tuple[float, float]


class Used(NamedTuple):
    """Scaling of a picture of more than 8 bits to 0 … 255.

    dtype: of the values. least, most: of the picture. low, high: black and white. by: who states them. "picture" means
    that nobody does, and the smallest and the largest value are taken.
    """

    dtype: np.dtype[Any]
    least: float
    most: float
    low: float
    high: float
    by: Literal["levels", "file", "dtype", "picture"]


def to_bytes(
    values: np.ndarray, natural: Range | None, stated: Range | None, levels: Sequence[float] | None, source: Any
) -> tuple[np.ndarray, Used]:
    """Return values of any shape as uint8, and how they were scaled.

    Black and white come from ``levels``, else from ``stated`` by the file (if no value lies outside), else from
    ``natural``, the range of the type (for floats 0 to 1, if no value lies outside), else from the picture's smallest
    and largest value. Raises BadSample: image/non-finite.
    """
    used = find_range(values, natural, stated, levels, source)
    return _scale(values, used.low, used.high, values.dtype.kind == "f"), used


def to_depth(
    values: np.ndarray,
    natural: Range | None,
    stated: Range | None,
    levels: Sequence[float] | None,
    source: Any,
    bits: int,
) -> np.ndarray:
    """Return values of any shape as uint8 (bits=8, ``to_bytes``), uint16 (16) or float32 in [0, 1] (32)."""
    if bits == 8:
        return to_bytes(values, natural, stated, levels, source)[0]
    used = find_range(values, natural, stated, levels, source)
    if bits == 16 and values.dtype == np.uint16 and (used.low, used.high) == (0, 65535):
        return values
    shares = (values.astype(np.float64) - used.low) / (used.high - used.low or 1)
    shares = shares.clip(0, 1)
    return np.rint(shares * 65535).astype(np.uint16) if bits == 16 else shares.astype(np.float32)


def find_range(
    values: np.ndarray, natural: Range | None, stated: Range | None, levels: Sequence[float] | None, source: Any
) -> Used:
    """Return the values of black and white, and who states them, as ``to_bytes`` says. Raises image/non-finite."""
    if values.size == 0:
        return Used(values.dtype, 0, 0, 0, 0, "dtype")
    least, most = float(values.min()), float(values.max())
    if not np.isfinite([least, most]).all():
        wrong = int((~np.isfinite(values)).sum())
        raise bad("image/non-finite", source, f"{wrong} of {values.size} pixels are NaN or infinite")
    floats = values.dtype.kind == "f"
    if levels is not None:
        low, high, by = float(levels[0]), float(levels[1]), "levels"
    elif stated is not None and stated[0] <= least and most <= stated[1]:
        (low, high), by = stated, "file"
    elif natural is not None and (not floats or (natural[0] <= least and most <= natural[1])):
        (low, high), by = natural, "dtype"
    else:
        low, high, by = least, most, "picture"
    return Used(values.dtype, least, most, low, high, by)


def _scale(values: np.ndarray, low: float, high: float, floats: bool) -> np.ndarray:
    """Return the values as uint8, ``low`` and below as 0, ``high`` and above as 255."""
    if values.dtype == np.uint16 and (low, high) == (0, 65535):
        return (values >> 8).astype(np.uint8)
    out = np.empty(values.shape, np.uint8)
    flat_in, flat_out = np.ascontiguousarray(values).reshape(-1), out.reshape(-1)
    width = high - low + (0 if floats else 1)
    step = 256 / width if width > 0 else 0.0  # floats that are all equal become black
    for at in range(0, len(flat_in), ROWS):  # float64 copies of a whole picture would take eight times its memory
        part = (flat_in[at : at + ROWS].astype(np.float64) - low) * step
        flat_out[at : at + ROWS] = part.clip(0, 255)
    return out


def finding(used: Used) -> tuple[str, str] | None:
    """Return (reason, detail) of a range that is probably wrong: image/low-range, image/own-range, or None."""
    if used.by == "picture" and used.least < used.most:
        return "image/own-range", (
            f"floats from {used.least:g} to {used.most:g}, and no range is stated: black and white are this picture's "
            "own; Image(levels=(BLACK, WHITE)) puts all pictures on one scale"
        )
    integer = used.dtype.kind in "iu"
    reach = max(abs(used.least), abs(used.most))
    varied = used.most - used.least >= (STEPS if integer else used.high * STEPS / 65536)
    if used.by not in ("dtype", "file") or reach >= (used.high + integer) / SHARE or not varied:
        return None
    if not integer:
        return "image/low-range", (
            f"values {used.least:g} to {used.most:g} of 0 to {used.high:g}; "
            f"Image(levels=(0, {used.most:.3g})) says their range"
        )
    bits = next(b for b in (8, 10, 12, 14, 16, 20, 24, 28, 32) if reach < 1 << b)
    low = -(1 << bits) if used.least < 0 else 0
    return "image/low-range", (
        f"values {used.least:.0f} to {used.most:.0f} of {used.low:.0f} to {used.high:.0f}; "
        f"Image(levels=({low}, {(1 << bits) - 1})) says their range"
    )
