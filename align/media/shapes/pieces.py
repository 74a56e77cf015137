"""Pieces of a scene from trimesh's parsers, with their colours, and the files that these parsers ask for."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from align.media.shapes.neighbours import Neighbours, open_texture
from align.media.shapes.part import COLOUR_MISSING, Part, check_corners, rgb


class Files(Mapping[str, bytes]):
    """Files that trimesh's parsers ask for by name: those in ``known``, and pictures.

    A missing picture is replaced by one that holds the reason (``absent_picture``), because the parsers would go on
    without a message.
    """

    def __init__(self, neighbours: Neighbours, known: Mapping[str, bytes]):
        self.neighbours, self.known = neighbours, known

    def __getitem__(self, name: str) -> bytes:
        if name in self.known:
            return self.known[name]
        found = self.neighbours.find(name)
        if isinstance(found, str):
            return absent_picture(found)
        image = open_texture(found)
        return absent_picture(f"{name.strip()}: {image}") if isinstance(image, str) else found

    def get(self, name: str, default: Any = None) -> Any:
        return self[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.known)

    def __len__(self) -> int:
        return len(self.known)


def absent_picture(reason: str) -> bytes:
    """Return a picture in place of a missing one, with the reason inside."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    said = PngInfo()
    said.add_itxt("absent", reason)
    out = io.BytesIO()
    Image.new("RGB", (1, 1)).save(out, "PNG", pnginfo=said)
    return out.getvalue()


def part(piece: Mapping[str, Any], neighbours: Neighbours, painted: Iterable[Any] = ()) -> Part:
    """Return a piece of trimesh's parsers as a part. painted: names of materials that have a texture."""
    from trimesh.geometry import triangulate_quads

    faces = piece.get("faces")
    out = Part(np.asarray(piece["vertices"], np.float64)[:, :3])
    if faces is not None and len(faces):
        out.faces = np.asarray(triangulate_quads(faces), np.int64).reshape(-1, 3)
        check_corners(out.faces, len(out.vertices))
    colours = piece.get("vertex_colors")
    visual = piece.get("visual")
    material = getattr(visual, "material", None)
    if colours is None and visual is not None:
        colours = visual.vertex_attributes.get("color")
    if colours is not None and len(colours) == len(out.vertices):
        out.vertex_rgb = rgb(np.asarray(colours))
    if material is None:
        return out
    texture = getattr(material, "image", None) or getattr(material, "baseColorTexture", None)
    if texture is not None and texture.format is None:  # trimesh's own picture, made without a material
        return out
    factor = getattr(material, "baseColorFactor", None)
    if texture is None and hasattr(material, "baseColorFactor") and material.name in painted:
        neighbours.say(COLOUR_MISSING, "a texture inside it cannot be read")
        out.vertex_rgb = None
    elif texture is not None:
        image = texture.info["absent"] if "absent" in texture.info else open_texture(texture)
        uv = getattr(visual, "uv", None)
        if not isinstance(image, str) and (uv is None or len(uv) != len(out.vertices)):
            image = "it has a texture and no places in it"
        if isinstance(image, str):
            neighbours.say(COLOUR_MISSING, image)
            out.vertex_rgb = None
        else:
            out.texture, out.uv, out.vertex_rgb = image, np.asarray(uv, np.float64), None
    elif factor is not None:
        out.plain = np.asarray(material.main_color, np.float64)[:3] / 255
    elif "kd" in getattr(material, "kwargs", {}):
        out.plain = np.asarray(material.diffuse, np.float64)[:3] / 255
    return out
