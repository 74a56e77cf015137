"""Pieces of a shape as files hold them, and the steps that all readers share: numbers, colours, faces, one wording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from align.values import BadSample

FILL = 0.4  # red, green and blue of a point without colour
COLOUR_MISSING = "points/colour-missing"


@dataclass
class Part:
    """Surface, or a scan if it has no faces.

    vertices: (V, 3) float64. faces: (F, 3) int64. Colours are rgb in [0, 1] and NaN where a vertex or face has none:
    vertex_rgb (V, 3), face_rgb (F, 3), plain (3,) of the whole part, or a texture (a PIL image) with uv (V, 2) in it.
    """

    vertices: np.ndarray
    faces: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.int64))
    vertex_rgb: np.ndarray | None = None
    face_rgb: np.ndarray | None = None
    plain: np.ndarray | None = None
    texture: Any = None
    uv: np.ndarray | None = None


def cut(stated: int, there: int, things: str) -> BadSample:
    """Return the reason for a file that holds less than its header says, always in the same words."""
    return BadSample("points/truncated", f"its header says {stated} {things}, {max(there, 0)} are there")


def numbers(text: bytes) -> np.ndarray:
    """Return the numbers of a text as float64, separated by any white space. Raises BadSample for another word."""
    text = text.strip()
    if not text:
        return np.zeros(0)
    try:
        return np.fromstring(text, sep=" ")  # an empty text would give [-1.]
    except (ValueError, DeprecationWarning):
        raise BadSample("points/unreadable", "words stand where numbers are expected") from None


def rgb(columns: np.ndarray) -> np.ndarray:
    """Return colours (n, 3) float64 in [0, 1] from (n, 3 or more) of any numeric type. NaN rows have no colour.

    Bytes are divided by 255, 16 bits by 65535. For floats and wider integers the largest value tells the scale.
    """
    found = columns[:, :3].astype(np.float64)
    found[~np.isfinite(found).all(1)] = np.nan
    most = np.nanmax(found) if np.isfinite(found).any() else 0.0
    if columns.dtype.itemsize <= 2 and columns.dtype.kind in "iu":
        full = 255 if columns.dtype.itemsize == 1 else 65535
    elif columns.dtype.kind == "f" and most <= 1.01:
        full = 1
    else:
        full = 255 if most <= 255 else 65535
    return (found / full).clip(0, 1)


def triangles(polygons: np.ndarray | Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return ((T, 3) corners, (T,) index of the polygon) of polygons, each cut around its first corner.

    polygons: (F, n) corners, or F arrays of different lengths. The result is sorted by the number of corners. Polygons
    of fewer than three corners give no triangle.
    """
    if isinstance(polygons, np.ndarray):
        alike = [(np.arange(len(polygons)), polygons)]
    else:
        rows: dict[int, list[int]] = {}
        for i, one in enumerate(polygons):
            rows.setdefault(len(one), []).append(i)
        alike = [(np.array(some), np.stack([polygons[i] for i in some])) for _, some in sorted(rows.items())]
    faces, of = [np.zeros((0, 3), np.int64)], [np.zeros(0, np.int64)]
    for some, corners in alike:
        i = np.arange(1, max(corners.shape[1] - 1, 1))
        columns = np.stack([np.zeros_like(i), i, i + 1], axis=1)  # (n - 2, 3)
        faces.append(corners[:, columns].reshape(-1, 3).astype(np.int64))
        of.append(some.repeat(len(columns)))
    return np.concatenate(faces), np.concatenate(of)


def check_corners(faces: np.ndarray, vertices: int) -> None:
    """Raise BadSample points/corrupt if a face names a vertex that is not there."""
    if len(faces) and (faces.min() < 0 or faces.max() >= vertices):
        wrong = int(faces.max()) if faces.max() >= vertices else int(faces.min())
        raise BadSample("points/corrupt", f"a face names vertex {wrong}, there are {vertices}, counted from 0")
