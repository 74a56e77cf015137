"""PLY, text or binary in either byte order: meshes and scans, with colours under the names that writers use."""

from __future__ import annotations

import numpy as np

from align.media.shapes.neighbours import Neighbours
from align.media.shapes.part import COLOUR_MISSING, Part, check_corners, numbers, rgb, triangles
from align.media.shapes.ply_rows import TYPES, Columns, Element, from_binary, from_text
from align.values import BadSample

COLOURS = (("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"), ("r", "g", "b"))
PLACES = (("texture_u", "texture_v"), ("u", "v"), ("s", "t"))
CORNERS = ("vertex_indices", "vertex_index")


def read_ply(data: bytes, neighbours: Neighbours) -> list[Part]:
    """Read the parts of a .ply file. Raises BadSample: points/unreadable, truncated, corrupt."""
    elements, form, textures, start = header(data)
    if form == "ascii":
        found = from_text(elements, numbers(data[start:]))
    else:
        found = from_binary(elements, data, start, "<" if form == "binary_little_endian" else ">")
    vertex, face = found.get("vertex", {}), found.get("face", {})
    if not vertex:
        return []
    if any(name not in vertex for name in "xyz"):
        raise BadSample("points/unreadable", f"its vertices have {', '.join(vertex)}; expected x, y, z")
    part = Part(np.stack([np.asarray(vertex[name], np.float64) for name in "xyz"], axis=1), vertex_rgb=colours(vertex))
    corners = next((face[name] for name in CORNERS if name in face), None)
    if corners is not None and len(corners):
        surface(part, corners, vertex, face)
    if textures and len(part.faces):
        if len(textures) > 1 or part.uv is None:
            said = f"{len(textures)} textures, one is read" if part.uv is not None else "a texture and no places in it"
            neighbours.say(COLOUR_MISSING, f"it has {said}")
        else:
            part.texture = neighbours.picture(textures[0])
        if part.texture is None:
            part.vertex_rgb = part.face_rgb = None
    return [part]


def header(data: bytes) -> tuple[list[Element], str, list[str], int]:
    """Read (elements, form, names of textures, byte where the rows begin)."""
    end = data.find(b"end_header")
    stop = data.find(b"\n", end)
    if not data.startswith(b"ply") or (end >= 0 and stop < 0 and not data[end:].strip() == b"end_header"):
        raise BadSample("points/unreadable", f"no PLY; it starts with {data[:12]!r}")
    if end < 0:
        raise BadSample("points/truncated", "its header has no end")
    elements: list[Element] = []
    form, textures = "", []
    for line in data[:end].decode("latin-1").replace("\r", "\n").split("\n"):
        words = line.split()
        try:
            if words[:1] == ["format"]:
                form = words[1]
            elif words[:1] == ["element"]:
                elements.append(Element(words[1], int(words[2])))
            elif words[:2] == ["property", "list"]:
                elements[-1].properties.append((words[4], TYPES[words[3]], TYPES[words[2]]))
            elif words[:1] == ["property"]:
                elements[-1].properties.append((words[2], TYPES[words[1]], ""))
            elif words[:1] == ["comment"] and words[1:2] and words[1].lower() == "texturefile":
                textures.append(line.split(None, 2)[2].strip())
        except (IndexError, KeyError, ValueError):
            raise BadSample("points/unreadable", f"a line of its header is {line[:80]!r}") from None
    if form not in ("ascii", "binary_little_endian", "binary_big_endian"):
        raise BadSample("points/unreadable", f"its header says format {form!r}")
    if any(element.count < 0 for element in elements):
        raise BadSample("points/unreadable", "its header says a negative count")
    return elements, form, textures, stop + 1 if stop >= 0 else len(data)


def colours(columns: Columns) -> np.ndarray | None:
    """Return colours (n, 3) in [0, 1] under any of the known names, or None."""
    lower = {name.lower(): column for name, column in columns.items()}
    for names in COLOURS:
        if all(name in lower for name in names):
            return rgb(np.stack([np.asarray(lower[name]) for name in names], axis=1))
    return None


def surface(part: Part, corners: np.ndarray | list[np.ndarray], vertex: Columns, face: Columns) -> None:
    """Give a part its faces as triangles, their colours, and places in a texture (of corners, or vertices)."""
    part.faces, face_of = triangles(corners)
    check_corners(part.faces, len(part.vertices))
    painted = colours(face)
    if painted is not None and part.vertex_rgb is None:
        part.face_rgb = painted[face_of]
    places = face.get("texcoord")
    if places is not None and all(len(uv) == 2 * len(polygon) for uv, polygon in zip(places, corners, strict=True)):
        # A polygon's places are cut like its corners: they are numbered by corner, cut, then looked up.
        first = np.cumsum([0, *(len(polygon) for polygon in corners)])[:-1]
        numbered, _ = triangles([at + np.arange(len(polygon)) for at, polygon in zip(first, corners, strict=True)])
        part.uv = np.concatenate([np.asarray(uv, np.float64).reshape(-1, 2) for uv in places])[numbered.reshape(-1)]
        keep = part.faces.reshape(-1)  # a vertex can have another place in each face
        part.vertices = part.vertices[keep]
        part.vertex_rgb = None if part.vertex_rgb is None else part.vertex_rgb[keep]
        part.faces = np.arange(len(keep)).reshape(-1, 3)
        return
    for u, v in PLACES:
        if u in vertex and v in vertex:
            part.uv = np.stack([np.asarray(vertex[u], np.float64), np.asarray(vertex[v], np.float64)], axis=1)
            return
