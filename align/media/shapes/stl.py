"""STL, text or binary: triangles without colour."""

from __future__ import annotations

import re

import numpy as np

from align.media.shapes.part import Part, cut, numbers
from align.values import BadSample

HEAD = 84  # bytes of a binary file's header: a title, and the number of triangles
MOST = 2**24  # triangles: a larger count is hardly true
ROW = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("more", "<u2")])


def read_stl(data: bytes) -> list[Part]:
    """Read the shape of an .stl file. Raises BadSample: points/unreadable, truncated."""
    stated = int.from_bytes(data[80:84], "little")
    fits = len(data) >= HEAD and len(data) == HEAD + ROW.itemsize * stated
    text = data.lstrip()[:5].lower() == b"solid" and b"\0" not in data[:HEAD]
    if text and not fits:
        corners = from_text(data)
    else:
        there = (len(data) - HEAD) // ROW.itemsize
        if len(data) < HEAD or stated > MOST:
            raise BadSample("points/unreadable", f"no STL; it starts with {data[:12]!r}")
        if stated > there:
            raise cut(stated, there, "triangles")
        corners = np.frombuffer(data, ROW, stated, HEAD)["corners"].astype(np.float64).reshape(-1, 3)
    return [Part(corners, np.arange(len(corners)).reshape(-1, 3))]


def from_text(data: bytes) -> np.ndarray:
    """Return the corners (3 T, 3) of a text's triangles."""
    lines = [line for line in (line.strip().lower() for line in re.split(rb"[\r\n]+", data)) if line]
    corners = [line[6:] for line in lines if line.startswith(b"vertex")]
    facets = sum(line.startswith(b"facet") for line in lines)
    ends = sum(line.startswith(b"endfacet") for line in lines)
    if not lines[-1].startswith(b"endsolid") or not facets == ends == len(corners) / 3:
        raise BadSample("points/truncated", f"{facets} facets begin, {ends} end, and the solid does not")
    values = numbers(b"\n".join(corners))
    if len(values) != 3 * len(corners):
        raise BadSample("points/unreadable", "a vertex is no three numbers")
    return values.reshape(-1, 3)
