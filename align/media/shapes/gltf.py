"""glTF 2.0, in one file (.glb) or with files beside it (.gltf), by trimesh's parser."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from align.media.shapes.neighbours import Neighbours
from align.media.shapes.part import Part
from align.media.shapes.pieces import Files, part
from align.values import BadSample

MOST = 2**23  # rows of an array, and numbers of all arrays without a buffer
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}


def read_glb(data: bytes, neighbours: Neighbours) -> list[Part]:
    """Read the parts of a .glb file. Raises BadSample: points/unreadable, truncated, incomplete, too-large."""
    from trimesh.exchange.gltf import load_glb

    if data[:4] != b"glTF":
        raise BadSample("points/unreadable", f"no GLB; it starts with {data[:12]!r}")
    size = int.from_bytes(data[8:12], "little")
    if len(data) < max(size, 20):
        raise BadSample("points/truncated", f"its header says {size} bytes, {len(data)} are there")
    length = int.from_bytes(data[12:16], "little")
    tree = parse_tree(data[20 : 20 + length])
    known = read_buffers(tree, neighbours)
    return place_parts(load_glb(io.BytesIO(data), resolver=Files(neighbours, known), process=False), tree, neighbours)


def read_gltf(data: bytes, neighbours: Neighbours) -> list[Part]:
    """Read the parts of a .gltf file and the .bin beside it. Raises BadSample as ``read_glb``."""
    from trimesh.exchange.gltf import load_gltf

    tree = parse_tree(data)
    known = read_buffers(tree, neighbours)
    return place_parts(load_gltf(io.BytesIO(data), resolver=Files(neighbours, known), process=False), tree, neighbours)


def parse_tree(text: bytes) -> dict[str, Any]:
    """Return the JSON of a glTF, after its arrays are checked for size and kind.

    trimesh would return zeros for compressed or sparse arrays. Raises BadSample: points/truncated, unreadable,
    too-large.
    """
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        if text.lstrip()[:1] == b"{" and not text.rstrip(b" \0\r\n\t").endswith(b"}"):
            raise BadSample("points/truncated", "its JSON has no end") from None
        raise BadSample("points/unreadable", f"no JSON; it starts with {text[:12]!r}") from None
    if not isinstance(tree, dict) or "asset" not in tree:
        raise BadSample("points/unreadable", "its JSON is no glTF")
    for name in tree.get("extensionsRequired", ()):
        if "compression" in name and not (name == "KHR_draco_mesh_compression" and find_spec("DracoPy")):
            raise BadSample("points/unreadable", f"it is compressed ({name}); write it without")
    accessors, made = tree.get("accessors", []), 0
    for accessor in accessors:
        count = accessor.get("count", 0)
        made += 0 if "bufferView" in accessor else count * WIDTHS[accessor["type"]]
        if not 0 <= count <= MOST or made > MOST:
            raise BadSample("points/too-large", f"an array of {count} rows")
    for primitive in (one for mesh in tree.get("meshes", ()) for one in mesh["primitives"]):
        places = (primitive.get("attributes", {}).get("POSITION"), primitive.get("indices"))
        if any("sparse" in accessors[i] for i in places if i is not None):
            raise BadSample("points/unreadable", "its places are a sparse array; write them as a plain one")
    return tree


def read_buffers(tree: Mapping[str, Any], neighbours: Neighbours) -> dict[str, bytes]:
    """Read the binary files that a glTF refers to. Raises BadSample: points/incomplete, truncated."""
    known = {}
    for buffer in tree.get("buffers", ()):
        uri = buffer.get("uri")
        if uri is None:
            continue
        size = buffer.get("byteLength", 0)
        if uri.startswith("data:"):
            kind, _, text = uri.partition(",")
            there = len(text) * 3 // 4
            if kind.endswith(";base64") and there < size:
                raise BadSample("points/truncated", f"its header says {size} bytes of a buffer, {there} are there")
            continue
        found = neighbours.find(uri)
        if isinstance(found, str):
            raise BadSample("points/incomplete", found)
        if len(found) < size:
            raise BadSample("points/truncated", f"its header says {size} bytes of {uri}, {len(found)} are there")
        known[uri] = found
    return known


def place_parts(loaded: Mapping[str, Any], tree: Mapping[str, Any], neighbours: Neighbours) -> list[Part]:
    """Return the parts of a scene, each at its place in the scene."""
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
