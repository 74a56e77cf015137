"""glTF 2.0, as one file (.glb) or with files beside it (.gltf), by trimesh's parser."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

from align.preprocess.shapes.neighbours import Neighbours
from align.preprocess.shapes.part import Part
from align.preprocess.shapes.pieces import Files, part
from align.values import BadSample

MOST = 2**23  # rows of an array


def read_glb(data: bytes, neighbours: Neighbours) -> list[Part]:
    """The shape in a .glb file. Raises BadSample: points/unreadable, truncated, incomplete, too-large."""
    from trimesh.exchange.gltf import load_glb

    if data[:4] != b"glTF":
        raise BadSample("points/unreadable", f"no GLB; it starts with {data[:12]!r}")
    size = int.from_bytes(data[8:12], "little")
    if len(data) < max(size, 20):
        raise BadSample("points/truncated", f"its header says {size} bytes, {len(data)} are there")
    length = int.from_bytes(data[12:16], "little")
    tree = checked(data[20 : 20 + length])
    known = buffers(tree, neighbours)
    return placed(load_glb(io.BytesIO(data), resolver=Files(neighbours, known), process=False), tree, neighbours)


def read_gltf(data: bytes, neighbours: Neighbours) -> list[Part]:
    """The shape in a .gltf file and the .bin beside it. Raises BadSample as ``read_glb``."""
    from trimesh.exchange.gltf import load_gltf

    tree = checked(data)
    known = buffers(tree, neighbours)
    return placed(load_gltf(io.BytesIO(data), resolver=Files(neighbours, known), process=False), tree, neighbours)


def checked(text: bytes) -> dict[str, Any]:
    """The JSON of a glTF, whose arrays are of a size that is read."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        if text.lstrip()[:1] == b"{" and not text.rstrip(b" \0\r\n\t").endswith(b"}"):
            raise BadSample("points/truncated", "its JSON has no end") from None
        raise BadSample("points/unreadable", f"no JSON; it starts with {text[:12]!r}") from None
    if not isinstance(tree, dict) or "asset" not in tree:
        raise BadSample("points/unreadable", "its JSON is no glTF")
    for accessor in tree.get("accessors", ()):
        if not 0 <= accessor.get("count", 0) <= MOST:
            raise BadSample("points/too-large", f"an array of {accessor['count']} rows")
    return tree


def buffers(tree: Mapping[str, Any], neighbours: Neighbours) -> dict[str, bytes]:
    """The binary files that a glTF refers to. Raises BadSample: points/incomplete, truncated."""
    known = {}
    for buffer in tree.get("buffers", ()):
        uri = buffer.get("uri")
        if uri is None or uri.startswith("data:"):
            continue
        found = neighbours.find(uri)
        if isinstance(found, str):
            raise BadSample("points/incomplete", found)
        if len(found) < (size := buffer.get("byteLength", 0)):
            raise BadSample("points/truncated", f"its header says {size} bytes of {uri}, {len(found)} are there")
        known[uri] = found
    return known


def placed(loaded: Mapping[str, Any], tree: Mapping[str, Any], neighbours: Neighbours) -> list[Part]:
    """The parts of a scene, each where the scene has it."""
    import trimesh

    scene = trimesh.Scene()
    scene.graph.base_frame = loaded.get("base_frame", scene.graph.base_frame)
    for edge in loaded.get("graph", ()):
        scene.graph.update(**edge)
    painted = {
        m.get("name") for m in tree.get("materials", ()) if "baseColorTexture" in m.get("pbrMetallicRoughness", {})
    }
    out = []
    for node in scene.graph.nodes_geometry:
        transform, name = scene.graph[node]
        piece = loaded["geometry"].get(name)
        if piece is None or "entities" in piece or not len(piece.get("vertices", ())):
            continue
        one = part(piece, neighbours, painted)
        one.vertices = one.vertices @ transform[:3, :3].T + transform[:3, 3]
        out.append(one)
    return out
