"""Meshes and scans to clouds: points drawn evenly over the surface, with the colours that the file has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from align.media.medium import Note
from align.media.reading import bad, open_source
from align.media.shapes.gltf import read_glb, read_gltf
from align.media.shapes.neighbours import Neighbours
from align.media.shapes.obj import read_obj
from align.media.shapes.off import read_off
from align.media.shapes.part import FILL, Part
from align.media.shapes.pcd import read_pcd
from align.media.shapes.ply import read_ply
from align.media.shapes.stl import read_stl
from align.values import BadSample

READERS: dict[str, Callable[[bytes, Neighbours], list[Part]]] = {
    "ply": read_ply,
    "obj": read_obj,
    "off": lambda data, _: read_off(data),
    "glb": read_glb,
    "gltf": read_gltf,
    "stl": lambda data, _: read_stl(data),
    "pcd": lambda data, _: read_pcd(data),
}
SUFFIXES = tuple(READERS)
LIMIT = 2**29  # bytes of a mesh file
BEYOND = 1e30  # areas of such triangles overflow
LONGEST = 300  # characters of a reason's detail
DROPPED = "points/dropped"


class Cloud(NamedTuple):
    """Cloud of points, and notes about data that were left out or are missing.
    points: (P, 6) float32, xyz in the file's units and rgb in [0, 1], or (P, 3) for a shape without colour."""

    points: np.ndarray
    notes: list[Note]


def sample_mesh(path: str | Path, count: int, seed: int = 0) -> np.ndarray:
    """Return (P, 6) float32 by ``read_cloud``: xyz in the file's units, and rgb in [0, 1] or 0.4 without colour."""
    points, _ = read_cloud(path, count, seed)
    if points.shape[1] == 6:
        return points
    return np.concatenate([points, np.full_like(points, FILL)], axis=1)


def read_cloud(
    source: str | Path | bytes, count: int, seed: int = 0, *, suffix: str | None = None, within: Path | None = None
) -> Cloud:
    """Read the cloud of a .ply, .obj, .off, .glb, .gltf, .stl or .pcd file.

    A surface gives P = count points, drawn with a probability proportional to area. A scan without faces gives all its
    P points. Colour comes from the texture, else from the vertices or faces, else from the material. Parts of a
    coloured scene that have none of them are 0.4. Points of a scan that are not finite, and faces with such a corner,
    are left out and noted.

    suffix: the format of bytes. within: the folder that names of textures and other files may lead to, by default the
    file's. Nothing is fetched. Raises BadSample: points/unreadable, empty, too-large, truncated, corrupt, incomplete,
    non-finite, range. Raises FileNotFoundError, and ValueError for another suffix.
    """
    suffix = (
        Path(source).suffix.lower().removeprefix(".") if suffix is None and not isinstance(source, bytes) else suffix
    )
    if suffix not in READERS:
        raise ValueError(f"a shape is a file or bytes of {', '.join(READERS)}, not of {suffix!r}")
    with open_source(source) as file:
        size = file.seek(0, 2)
        if size > LIMIT:
            raise bad("points/too-large", source, f"{size} bytes, at most {LIMIT} are read")
        file.seek(0)
        data = file.read()
    if size == 0:
        raise bad("points/empty", source, "no bytes")
    path = None if isinstance(source, bytes) else Path(source)
    neighbours = Neighbours(path, within)
    try:
        with np.errstate(all="ignore"):  # damaged files overflow: values that are not finite are found later
            parts = READERS[suffix](data, neighbours)
            points = sample_parts(parts, count, np.random.default_rng(seed), neighbours)
    except MemoryError:
        raise
    except BadSample as error:
        raise bad(error.reason, source, shorten(error.detail)) from None
    except Exception as error:  # every parser raises other types
        raise bad("points/unreadable", source, shorten(str(error)) or type(error).__name__) from None
    return Cloud(points.astype(np.float32), neighbours.notes)


def shorten(detail: str) -> str:
    """Return a text as one line of at most LONGEST characters: damaged headers hold numbers and names of any length."""
    line = " ".join(detail.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def sample_parts(parts: list[Part], count: int, rng: np.random.Generator, neighbours: Neighbours) -> np.ndarray:
    """Return the cloud (P, 6 or 3) of all parts. Raises BadSample: points/empty, non-finite, range."""
    total = sum(len(part.vertices) for part in parts)
    kept = drop_nonfinite(parts, neighbours)
    areas = [area(part) for part in kept]
    surfaces = [(part, faces) for part, faces in zip(kept, areas, strict=True) if faces.sum() > 0]
    if surfaces:
        whole = np.array([faces.sum() for _, faces in surfaces])
        shares = rng.multinomial(count, whole / whole.sum())
        clouds = [surface_cloud(*one, n, rng) for one, n in zip(surfaces, shares, strict=True) if n]
    else:
        clouds = [vertex_cloud(part) for part in kept]
    if sum(map(len, clouds)) == 0:
        if total:
            raise BadSample("points/non-finite", f"it has {total} points, and no point or face that is finite")
        raise BadSample("points/empty", "neither faces nor points")
    points = np.concatenate(clouds)
    none = ~np.isfinite(points[:, 3:])
    points[:, 3:][none] = FILL
    return points[:, :3] if none.all() else points


def drop_nonfinite(parts: list[Part], neighbours: Neighbours) -> list[Part]:
    """Drop faces, and points of a scan, that are not finite, note their number, and return the parts that are left.

    Raises BadSample: points/range for coordinates beyond BEYOND.
    """
    out = []
    for part in parts:
        good = np.asarray(np.isfinite(part.vertices).all(1))
        if not good.all():
            if len(part.faces):
                keep = np.asarray(good[part.faces].all(1))
                neighbours.say(DROPPED, f"{int((~keep).sum())} of {len(keep)} faces have a corner that is not finite")
                part.faces = part.faces[keep]
                part.face_rgb = None if part.face_rgb is None else part.face_rgb[keep]
                if not len(part.faces):
                    continue
            else:
                neighbours.say(DROPPED, f"{int((~good).sum())} of {len(good)} points are not finite")
                part.vertices = part.vertices[good]
                part.vertex_rgb = None if part.vertex_rgb is None else part.vertex_rgb[good]
                good = good[good]
        if (far := np.abs(part.vertices[good]).max(initial=0)) > BEYOND:
            raise BadSample("points/range", f"coordinates reach {far:.3g}")
        out.append(part)
    return out


def area(part: Part) -> np.ndarray:
    """Return the areas (F,) of the faces."""
    a, b, c = (part.vertices[part.faces[:, i]] for i in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


def surface_cloud(part: Part, areas: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw (count, 6) points: a face by its area, then a point uniform in the triangle.

    Osada et al. 2002, section 4.1: p = (1 - √r1) a + √r1 (1 - r2) b + √r1 r2 c.
    """
    share = np.cumsum(areas)
    face = np.searchsorted(share, rng.random(count) * share[-1], side="right").clip(max=len(share) - 1)
    r1, r2 = np.sqrt(rng.random(count)), rng.random(count)
    weights = np.stack([1 - r1, r1 * (1 - r2), r1 * r2], axis=1)[..., None]  # (count, 3, 1)
    corners = part.faces[face]  # (count, 3)
    xyz = (part.vertices[corners] * weights).sum(1)
    return np.concatenate([xyz, surface_colour(part, face, corners, weights)], axis=1)


def surface_colour(part: Part, face: np.ndarray, corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the colours (count, 3) in [0, 1] of points on a surface, NaN where there is none.
    face: (count,). corners: (count, 3) of each face. weights: (count, 3, 1) of the corners."""
    if part.texture is not None and part.uv is not None:
        from trimesh.visual.color import uv_to_interpolated_color

        uv = np.nan_to_num((part.uv[corners] * weights).sum(1), posinf=0, neginf=0)
        return uv_to_interpolated_color(uv, part.texture)[:, :3] / 255
    if part.vertex_rgb is not None:
        return (part.vertex_rgb[corners] * weights).sum(1)
    if part.face_rgb is not None:
        return part.face_rgb[face]
    return np.tile(np.full(3, np.nan) if part.plain is None else part.plain, (len(face), 1))


def vertex_cloud(part: Part) -> np.ndarray:
    """Return (P, 6), the bare points of a scan or of a surface without area. Colours are NaN where there are none."""
    rgb = part.vertex_rgb if part.vertex_rgb is not None else np.full((len(part.vertices), 3), np.nan)
    return np.concatenate([part.vertices, rgb], axis=1)
