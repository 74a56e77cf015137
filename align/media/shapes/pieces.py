"""Pieces of a scene as trimesh's parsers give them, with their colours, and the files that these parsers ask for."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from align.media.shapes.neighbours import Neighbours, opened_texture
from align.media.shapes.part import COLOUR_MISSING, Part, check_corners, rgb


class Files(Mapping[str, bytes]):
    """The files that trimesh's parsers ask for by name: those in ``known``, and pictures.

    A picture that cannot be had is answered by one that says so (``absent``): the parsers would go on without a word.
    """

    def __init__(self, neighbours: Neighbours, known: Mapping[str, bytes]):
        self.neighbours, self.known = neighbours, known

    def __getitem__(self, name: str) -> bytes:
        if name in self.known:
            return self.known[name]
        found = self.neighbours.find(name)
        if isinstance(found, str):
            return absent(found)
        image = opened_texture(found)
        return absent(f"{name.strip()}: {image}") if isinstance(image, str) else found

    def get(self, name: str, default: Any = None) -> Any:
        return self[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.known)

    def __len__(self) -> int:
        return len(self.known)


def absent(reason: str) -> bytes:
    """A picture that stands for one that is not there, and says why."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    said = PngInfo()
    said.add_itxt("absent", reason)
    out = io.BytesIO()
    Image.new("RGB", (1, 1)).save(out, "PNG", pnginfo=said)
    return out.getvalue()


def part(piece: Mapping[str, Any], neighbours: Neighbours, painted: Iterable[Any] = ()) -> Part:
    """A piece as trimesh's parsers give it. painted: names of materials that have a texture."""
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
    if texture is not None and texture.format is None:  # trimesh's own, where there is no material
        return out
    factor = getattr(material, "baseColorFactor", None)
    if texture is None and hasattr(material, "baseColorFactor") and material.name in painted:
        neighbours.say(COLOUR_MISSING, "a texture inside it cannot be read")
        out.vertex_rgb = None
    elif texture is not None:
        image = texture.info["absent"] if "absent" in texture.info else opened_texture(texture)
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
