"""OBJ, and the .mtl and pictures that it names, by trimesh's parser."""

from __future__ import annotations

import io
import re

from align.media.shapes.neighbours import Neighbours
from align.media.shapes.part import COLOUR_MISSING, Part
from align.media.shapes.pieces import Files, part
from align.values import BadSample

MATERIALS = 2048  # trimesh's time grows with their square


def read_obj(data: bytes, neighbours: Neighbours) -> list[Part]:
    """Read the parts of an .obj file.
    Raises BadSample: points/corrupt for a face whose vertex is missing, points/too-large."""
    from trimesh.exchange.obj import load_obj

    text = decode_text(data)
    known: dict[str, bytes] = {}
    for name in dict.fromkeys(line.strip() for line in re.findall(r"^[ \t]*mtllib[ \t]+(.+)$", text, re.MULTILINE)):
        found = neighbours.find(name)
        if isinstance(found, str):
            neighbours.say(COLOUR_MISSING, found)
        else:
            known[name] = decode_text(found).encode()
    used = dict.fromkeys(line.strip() for line in re.findall(r"^[ \t]*usemtl[ \t]+(.+)$", text, re.MULTILINE))
    if len(used) > MATERIALS:
        raise BadSample("points/too-large", f"{len(used)} materials, at most {MATERIALS} are read")
    stated = {
        line.strip()
        for content in known.values()
        for line in re.findall(r"^[ \t]*newmtl[ \t]+(.+)$", content.decode(), re.MULTILINE)
    }
    lost = [name for name in used if name not in stated]
    if lost and not neighbours.notes:
        files = ", ".join(known)
        said = f"{files} has no material {lost[0]!r}" if files else f"material {lost[0]!r} is of no .mtl file"
        neighbours.say(COLOUR_MISSING, said)
    try:
        loaded = load_obj(io.BytesIO(text.encode()), resolver=Files(neighbours, known))
    except IndexError:
        raise BadSample("points/corrupt", "a face names a vertex that is not there") from None
    pieces = loaded["geometry"].values() if "geometry" in loaded else [loaded]
    return [part(piece, neighbours) for piece in pieces if len(piece.get("vertices", ()))]


def decode_text(data: bytes) -> str:
    """Return text that is UTF-8, or Latin-1 from an older system."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")
