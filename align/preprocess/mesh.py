"""Meshes and scans to clouds: points drawn evenly over the surface, with the colour that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from align.preprocess.base import bad, opened

SUFFIXES = ("ply", "obj", "off", "glb", "stl")
LIMIT = 2**29  # bytes of a mesh file
FILL = 0.4  # the colour of what has none


def sample_mesh(path: str | Path, count: int, seed: int = 0) -> np.ndarray:
    """(P, 6) float32: xyz in the file's units and rgb in [0, 1], from a .ply, .obj, .off, .glb or .stl file.

    Of a surface P = count points, drawn with a probability proportional to area; of a scan without faces all P points.
    Colour comes from the texture, else the vertices or faces, else the material; where there is none it is 0.4.
    Raises BadSample: points/unreadable, points/empty, points/too-large; FileNotFoundError.
    """
    with opened(path) as file:
        size = file.seek(0, 2)
    if size > LIMIT:
        raise bad("points/too-large", path, f"{size} bytes, at most {LIMIT} are read")
    if size == 0:
        raise bad("points/empty", path, "no bytes")
    import trimesh

    try:
        scene = trimesh.load_scene(str(path))
        parts = []
        for node in scene.graph.nodes_geometry:
            transform, name = scene.graph[node]
            part: Any = scene.geometry[name].copy()
            parts.append(part.apply_transform(transform))
        surfaces = [part for part in parts if len(getattr(part, "faces", ())) and part.area > 0]
        rng = np.random.default_rng(seed)
        if surfaces:
            areas = np.array([part.area for part in surfaces])
            shares = rng.multinomial(count, areas / areas.sum())
            clouds = [surface_cloud(part, n, rng) for part, n in zip(surfaces, shares, strict=True) if n]
        else:
            clouds = [vertex_cloud(part) for part in parts if hasattr(part, "vertices")]
    except MemoryError:
        raise
    except Exception as error:  # every format's parser has its own
        raise bad("points/unreadable", path, " ".join(str(error).split()) or type(error).__name__) from None
    if sum(map(len, clouds)) == 0:
        raise bad("points/empty", path, "neither faces nor points")
    return np.concatenate(clouds).astype(np.float32)


def surface_cloud(part: Any, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 6) from a trimesh.Trimesh: a face by its area, then a point uniform in the triangle.

    Osada et al. 2002, section 4.1: p = (1 - √r1) a + √r1 (1 - r2) b + √r1 r2 c.
    """
    share = np.cumsum(part.area_faces)
    face = np.searchsorted(share, rng.random(count) * share[-1], side="right").clip(max=len(share) - 1)
    r1, r2 = np.sqrt(rng.random(count)), rng.random(count)
    weights = np.stack([1 - r1, r1 * (1 - r2), r1 * r2], axis=1)[..., None]  # (count, 3, 1)
    corners = part.faces[face]  # (count, 3)
    xyz = (part.vertices[corners] * weights).sum(1)
    return np.concatenate([xyz, surface_colour(part.visual, face, corners, weights)], axis=1)


def surface_colour(visual: Any, face: np.ndarray, corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(count, 3) in [0, 1] of points that lie with ``weights`` between the ``corners`` of each ``face``."""
    if visual.kind == "vertex":
        return (visual.vertex_colors[corners][..., :3] * weights).sum(1) / 255
    if visual.kind == "face":
        return visual.face_colors[face][:, :3] / 255
    if visual.kind == "texture":
        material = visual.material
        texture = getattr(material, "image", None) or getattr(material, "baseColorTexture", None)
        if texture is not None and visual.uv is not None:
            from trimesh.visual.color import uv_to_interpolated_color

            return uv_to_interpolated_color((visual.uv[corners] * weights).sum(1), texture)[:, :3] / 255
        if material is not None:
            return np.tile(np.asarray(material.main_color)[:3] / 255, (len(face), 1))
    return np.full((len(face), 3), FILL)


def vertex_cloud(part: Any) -> np.ndarray:
    """(P, 6) from the bare points of a scan."""
    xyz = np.asarray(part.vertices)
    colours = np.asarray(getattr(part, "colors", ()))
    has = colours.ndim == 2 and len(colours) == len(xyz) > 0
    rgb = colours[:, :3] / 255 if has else np.full((len(xyz), 3), FILL)
    return np.concatenate([xyz, rgb], axis=1)
