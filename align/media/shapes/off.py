"""OFF and its variants: COFF has colours of vertices, NOFF has normals. In all of them faces may have colours."""

from __future__ import annotations

import re

import numpy as np

from align.media.shapes.part import Part, check_corners, cut, numbers, rgb, triangles
from align.values import BadSample

_keyword = re.compile(rb"\s*(ST)?(C)?(N)?(4)?(n)?OFF(\s+BINARY)?")


def read_off(data: bytes) -> list[Part]:
    """Read the parts of an .off file. Raises BadSample: points/unreadable, truncated, corrupt."""
    if b"#" in data:
        data = re.sub(rb"#[^\n]*", b"", data)
    found = _keyword.match(data)
    if found is None:
        raise BadSample("points/unreadable", f"no OFF; it starts with {data[:12]!r}")
    places, coloured, normals, four, many, binary = (found[i] is not None for i in range(1, 7))
    if four or many or binary:
        raise BadSample("points/unreadable", f"{found[0].decode()!r}: only text in three dimensions is read")
    lines = [line for line in data[found.end() :].replace(b"\r", b"\n").split(b"\n") if line.strip()]
    if not lines:
        raise BadSample("points/truncated", "the line of its counts is not there")
    counts = numbers(lines[0])
    if len(counts) < 2 or not (counts[:2] >= 0).all() or not (counts[:2] < 2**31).all():
        raise BadSample("points/unreadable", f"its counts are {lines[0][:40]!r}")
    V, F = int(counts[0]), int(counts[1])
    rows = lines[1 : 1 + V + F]
    if len(rows) < V + F:
        there = len(rows)
        raise cut(V, there, "vertices") if there < V else cut(F, there - V, "faces")
    values = numbers(b"\n".join(rows[:V]))
    width = len(values) // V if V else 3
    if width < 3 or len(values) != width * V:
        raise cut(V, V - 1, "vertices")
    vertices = values.reshape(V, width)
    part = Part(vertices[:, :3].copy())
    begin = 3 + 3 * normals
    channels = width - begin - 2 * places
    if (coloured or not (normals or places)) and channels >= 3:
        part.vertex_rgb = rgb(vertices[:, begin : begin + 3])
    if F:
        _faces(rows[V:], part)
    return [part]


def _faces(rows: list[bytes], part: Part) -> None:
    """Give a part its faces and, if vertices have no colours, those of the faces."""
    values = numbers(b"\n".join(rows))
    width = len(values) // len(rows)
    table = values.reshape(-1, width) if width and len(values) == width * len(rows) else None
    if table is not None and (table[:, 0] == table[0, 0]).all() and 0 <= table[0, 0] < width:
        n = int(table[0, 0])
        part.faces, of = triangles(table[:, 1 : 1 + n])
        painted = rgb(table[:, 1 + n : 4 + n]) if width >= n + 4 else None
    else:
        lists = [numbers(row) for row in rows]
        if any(not 0 <= row[0] < len(row) for row in lists):
            there = next(i for i, row in enumerate(lists) if not 0 <= row[0] < len(row))
            raise cut(len(rows), there, "whole faces")
        part.faces, of = triangles([row[1 : 1 + int(row[0])] for row in lists])
        rest = [row[1 + int(row[0]) :] for row in lists]
        none = np.full(3, np.nan)
        painted = None
        if any(len(row) >= 3 for row in rest):
            painted = rgb(np.stack([row[:3] if len(row) >= 3 else none for row in rest]))
    check_corners(part.faces, len(part.vertices))
    if painted is not None and part.vertex_rgb is None:
        part.face_rgb = painted[of]
