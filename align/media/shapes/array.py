"""Arrays that are clouds: (P, 3) xyz, or (P, 6) xyz and rgb in [0, 1], judged before anything is made of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from align.media.reading import bad
from align.media.shapes.part import FILL

FARTHEST = 1e6  # a coordinate beyond it is damage, or needs another unit


def read_columns(array: np.ndarray, source: Any, color: bool) -> np.ndarray:
    """Return a copy (6 or 3, P) of an array (P, 6 or 3) that is a cloud; other numbers than float32 and float16 become
    float64. Raises BadSample: points/shape, dtype, empty, non-finite, range, colour.

    Coordinates lie in rows here: numpy's minimum and maximum then take 10 µs for 10,000 points, across them 500.
    """
    if array.ndim != 2 or array.shape[1] not in (3, 6):
        raise bad("points/shape", source, f"shape {array.shape}; expected (P, 3) or (P, 6)")
    if array.dtype.kind not in "fiu":
        raise bad("points/dtype", source, f"{array.dtype} is not numeric")
    if len(array) == 0:
        raise bad("points/empty", source, "no points")
    single = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    with np.errstate(over="ignore"):
        cloud = np.array(array[:, : 6 if color else 3].T, np.float32 if single else np.float64, order="C")
    low, high = cloud.min(1), cloud.max(1)  # of NaN they are NaN
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise bad("points/non-finite", source, "NaN or infinity")
    if (far := max(-low[:3].min(), high[:3].max())) > FARTHEST:
        raise bad("points/range", source, f"coordinates reach {far:.3g}, at most {FARTHEST:g} are read")
    if len(cloud) == 6 and (low[3:].min() < 0 or high[3:].max() > 1):
        least, most = low[3:].min(), high[3:].max()
        if least < -0.01 or most > 1.01:
            raise bad("points/colour", source, f"rgb from {least:.3g} to {most:.3g}; expected 0 to 1")
        cloud[3:].clip(0, 1, out=cloud[3:])
    return cloud


def has_colour(array: np.ndarray) -> bool:
    """Return whether a cloud (P, 3 or 6) has colours; grey in place of a colour (0.4 everywhere) is none."""
    if array.ndim != 2 or array.shape[1] != 6:
        return False
    return not all((np.abs(some[:, 3:].astype(np.float32) - FILL) < 1e-3).all() for some in (array[:1], array))
