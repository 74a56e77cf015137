"""Clouds: (P, 3) or (P, 6) arrays of points, which meshes and scans become."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from align.media.medium import Examined, Face, Measures, Medium, Note, Oddity, Severity, Stored
from align.media.npy import read_npy, save_npy
from align.media.recode import Recode
from align.media.shapes.array import has_colour, read_columns
from align.media.shapes.fingerprint import cloud_print
from align.media.shapes.geometry import normal, scatter
from align.media.shapes.mesh import DROPPED, SUFFIXES, read_cloud
from align.media.shapes.part import FILL
from align.media.sketch import cloud_dots
from align.values import BadSample

MAX_POINTS = 5_000_000  # of a cloud that is read
LIMIT = 1 << 28  # numbers of an array that is drawn
FEW = 64  # points
LEAST_SHOWN = 8  # points of a cloud on a page
THIN = 1e-4  # a cloud's thickness over its length


@final
class Cloud(Medium):
    """Clouds of points with or without colour: .npy of the modality ``points``."""

    name = "cloud"
    element = "cloud"
    modality = "points"
    suffixes = ("npy",)
    files = SUFFIXES
    folders = ("points", "cloud", "clouds", "pointcloud", "pointclouds", "mesh", "meshes", "ply", "npy")
    columns: ClassVar[Mapping[str, str]] = {"points": "shape"}
    odd: ClassVar[Mapping[str, Oddity]] = {"colour": Oddity("points/colour-mixed", "{}, most have {}")}
    reasons: ClassVar[Mapping[str, tuple[Severity, str]]] = {
        "points/incomplete": ("error", "a file that it refers to is not there"),
        "points/not-npy": ("error", "no .npy array"),
        "points/shape": ("error", "a cloud is (P, 3) or (P, 6)"),
        "points/colour": ("error", "colours are from 0 to 1"),
        "points/colour-missing": (
            "warning",
            "its colours are in a file that could not be had when the shards were made; it has none",
        ),
        "points/few": ("warning", "fewer than 64 points"),
        "points/identical": ("warning", "all points are the same"),
        "points/line": ("warning", "all points are on a line"),
        "points/planar": ("warning", "all points are in a plane"),
        "points/repeated": ("warning", "fewer than half of the points are distinct"),
        "points/dropped": ("note", "points or faces that are not finite were left out when the shards were made"),
        "points/colour-mixed": ("note", "a cloud without colour among coloured ones, or the other way round"),
    }

    def read(self, source: bytes | Path) -> np.ndarray:
        """Return (P, 3 or 6) float32 or float64. Raises BadSample as ``read_npy`` and ``read_columns``."""
        data = source.read_bytes() if isinstance(source, Path) else source
        return read_columns(read_npy(io.BytesIO(data), "points", limit=6 * MAX_POINTS), source, color=True).T

    def describe(self, data: bytes) -> dict[str, Any]:
        from numpy.lib import format as npy

        file = io.BytesIO(data)
        read = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
        found: dict[str, Any] = {"shape": list(shape), "dtype": str(dtype)}
        if len(shape) == 2 and shape[1] == 6 and dtype.kind in "fiu":
            found["colour"] = has_colour(read_npy(io.BytesIO(data), "points", limit=6 * MAX_POINTS))
        return found

    def measure(self, about: Mapping[str, Any]) -> Measures:
        shape, kinds = about["shape"], {"dtype": about["dtype"]}
        if len(shape) == 2 and shape[1] in (3, 6):
            colour = "with colour" if about.get("colour") else "without colour"
            return Measures({"points": shape[0]}, {**kinds, "colour": colour})
        return Measures({}, {**kinds, "shape": "×".join(map(str, shape))})

    def say(self, about: Mapping[str, Any], size: int) -> str:
        points = f"{about['shape'][0]} points, " if len(about["shape"]) == 2 else ""
        grey = ", without colour" if about.get("colour") is False else ""  # three columns say so themselves
        return f"{points}{'×'.join(map(str, about['shape']))} {about['dtype']}{grey}"

    def column(self, name: str, about: Mapping[str, Any], rows: Sequence[bytes]) -> Any:
        return (about.get("shape") or [None])[0]

    def examine(self, data: bytes, suffix: str, modality: str) -> Examined:
        """Content: places (P, 3) float64, or None for few or identical points."""
        array = read_npy(io.BytesIO(data), "points", limit=6 * MAX_POINTS)
        xyz = read_columns(array, data, color=True)[:3].astype(np.float32, copy=False).T.astype(np.float64)
        found: list[Note] = []
        properties = {"colour": "colour" if has_colour(array) else "no colour"}
        if len(xyz) < FEW:
            found.append(Note("points/few", f"{len(xyz)} points"))
        distinct = len(np.unique(xyz, axis=0))
        if distinct == 1:
            where = ", ".join(f"{x:.3g}" for x in xyz[0])
            return Examined([*found, Note("points/identical", f"{len(xyz)} times ({where})")], properties)
        if distinct < len(xyz) / 2:
            found.append(Note("points/repeated", f"{distinct} of {len(xyz)} are distinct"))
        spread = np.sqrt(np.linalg.eigvalsh(np.cov(xyz.T)).clip(0))  # (3,) along its axes, the thinnest first
        if spread[1] <= THIN * spread[2]:
            found.append(Note("points/line", f"{len(xyz)} points"))
        elif spread[0] <= THIN * spread[2]:
            found.append(Note("points/planar", f"{len(xyz)} points"))
        return Examined(found, properties, content=xyz if len(xyz) >= FEW else None)

    def fingerprint(self, content: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        return cloud_print(content)

    def encode(self, content: Any) -> bytes | None:
        return save_npy(np.asarray(content)) if hasattr(content, "__array__") else None

    def convert(
        self, source: bytes | Path, suffix: str, *, points: int, seed: int, within: Path | None = None
    ) -> Stored:
        """Return a mesh or a scan as (points, 6) float32, xyz and rgb, or (points, 3) where it has no colour."""
        cloud, notes = read_cloud(source, points, seed, suffix=suffix, within=within)
        where = f"{source}: " if isinstance(source, Path) else ""
        return Stored(save_npy(cloud), self.suffixes[0], [Note(note.reason, where + note.detail) for note in notes])

    def recode(self, data: bytes, suffix: str, modality: str, settings: Recode) -> Stored:
        """Leave out points that are not finite, and change the precision as asked."""
        array = read_npy(io.BytesIO(data), "points", limit=6 * MAX_POINTS)
        notes: list[Note] = []
        try:
            read_columns(array, None, color=True)
        except BadSample as error:
            if error.reason != "points/non-finite":
                raise
            good = np.asarray(np.isfinite(array).all(1))
            if not good.any():
                raise BadSample("points/non-finite", f"none of its {len(good)} points is finite") from None
            read_columns(array[good], None, color=True)
            notes.append(Note(DROPPED, f"{int((~good).sum())} of {len(good)} points are not finite"))
            data = save_npy(array[good])
        if settings.points_dtype is not None:
            data = as_dtype(data, settings.points_dtype)
        return Stored(data, suffix, notes)

    def face(self, data: bytes, suffix: str) -> Face | None:
        return cloud_face(read_npy(io.BytesIO(data), "points", limit=LIMIT))

    def sketch(self, data: bytes, *, colours: bool) -> str | None:
        array: Any = read_npy(io.BytesIO(data), "points", limit=1 << 25)
        return cloud_dots(array[:, :3]) if array.ndim == 2 and array.shape[1] in (3, 6) else None


def as_dtype(data: bytes, dtype: str) -> bytes:
    """Return a .npy of floats in another precision. Raises BadSample for other types and values that do not fit."""
    array = read_npy(io.BytesIO(data), "points", limit=6 * MAX_POINTS)
    if array.dtype == np.dtype(dtype):
        return data
    if array.dtype.kind != "f":
        raise BadSample("points/dtype", f"{array.dtype}; expected floats")
    with np.errstate(over="ignore"):
        changed = array.astype(dtype)
    if not np.isfinite(changed[np.isfinite(array)]).all():
        raise BadSample("points/range", f"a value of {np.nanmax(np.abs(array)):.3g} does not fit {dtype}")
    return save_npy(np.ascontiguousarray(changed))


def cloud_face(points: np.ndarray) -> Face | None:
    """Return (P, 3) or (P, 6), xyz and rgb in [0, 1], as at most 512 points, or None for any other array."""
    if points.ndim != 2 or points.shape[1] not in (3, 6) or len(points) < LEAST_SHOWN:
        return None
    points = points.astype(np.float32)
    points = points[np.isfinite(points).all(axis=1)]
    points = points[scatter(points[:, :3])]
    low, high = points[:, :3].min(axis=0), points[:, :3].max(axis=0)
    xyz = points[:, :3] - (low + high) / 2
    radius = float(np.linalg.norm(xyz, axis=1).max()) or 1.0
    colour = points[:, 3:] if points.shape[1] == 6 else np.full_like(xyz, FILL)
    places = np.round(127 * xyz / radius).astype(np.int8)
    normals = np.round(127 * normal(xyz)).astype(np.int8)
    colours = np.round(255 * colour.clip(0, 1)).astype(np.uint8)
    return Face("cloud", places.tobytes() + normals.tobytes() + colours.tobytes(), {"radius": radius})


CLOUD = Cloud()
