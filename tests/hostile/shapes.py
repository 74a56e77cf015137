"""Shapes whose headers state 10^9 rows, and damaged ones."""

from __future__ import annotations

import json
import struct
from typing import Any

from hostile.pictures import small
from hostile.request import EITHER, Hostile, file

CORNERS = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"
MANY = 10**9


def gltf(address: str, **changes: Any) -> bytes:
    """Return a triangle in glTF whose corners are in a buffer at an address."""
    tree: dict[str, Any] = {
        "asset": {"version": "2.0"},
        "buffers": [{"uri": address, "byteLength": 36}],
        "bufferViews": [{"buffer": 0, "byteLength": 36}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "nodes": [{"mesh": 0}],
        "scenes": [{"nodes": [0]}],
    }
    return json.dumps({**tree, **changes}).encode()


def glb(tree: bytes, size: int | None = None) -> bytes:
    """Return a .glb of JSON. size: as its header states."""
    body = struct.pack("<I4s", len(tree), b"JSON") + tree
    return b"glTF" + struct.pack("<II", 2, 12 + len(body) if size is None else size) + body


def ply(*lines: str, rows: bytes = b"", form: str = "binary_little_endian") -> bytes:
    """Return a PLY whose header has such lines."""
    return "\n".join(["ply", f"format {form} 1.0", *lines, "end_header", ""]).encode() + rows


def pcd(points: int, data: str, rows: bytes) -> bytes:
    """Return a PCD that states so many points."""
    lines = [
        "VERSION .7",
        "FIELDS x y z",
        "SIZE 4 4 4",
        "TYPE F F F",
        "COUNT 1 1 1",
        f"WIDTH {points}",
        "HEIGHT 1",
        "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {points}",
        f"DATA {data}",
        "",
    ]
    return "\n".join(lines).encode() + rows


def counts() -> list[Hostile]:
    """Return shapes whose headers state 10^9 rows, and damaged ones."""
    kind, xyz = "shapes", ("property float x", "property float y", "property float z")
    triangle = struct.pack("<9f", 0, 0, 0, 1, 0, 0, 0, 1, 0)
    faces = "property list uchar int vertex_indices"
    accessor = {"componentType": 5126, "type": "VEC3"}
    nodes = [{"mesh": 0, "children": [i + 1]} for i in range(5000)] + [{"mesh": 0}]
    whole: list[tuple[str, Any, str]] = [
        ("PLY of 10^9 points", ply(f"element vertex {MANY}", *xyz, rows=triangle), "ply"),
        ("PLY of 10^9 points in text", ply(f"element vertex {MANY}", *xyz, rows=b"0 0 0\n", form="ascii"), "ply"),
        ("PLY of 10^9 faces", ply("element vertex 3", *xyz, f"element face {MANY}", faces, rows=triangle), "ply"),
        ("PLY of 10^9 points without columns", ply(f"element vertex {MANY}"), "ply"),
        ("PLY of −1 points", ply("element vertex -1", *xyz), "ply"),
        ("PLY of 10^400 points", ply("element vertex 1" + "0" * 400, *xyz), "ply"),
        (
            "PLY of a list of 2³¹",
            ply(
                "element vertex 3",
                *xyz,
                "element face 1",
                "property list uint int vertex_indices",
                rows=triangle + struct.pack("<I", 2**31),
            ),
            "ply",
        ),
        (
            "PLY of a face that is nowhere",
            ply(
                "element vertex 3", *xyz, "element face 1", faces, rows=triangle + struct.pack("<Biii", 3, 0, 1, 10**9)
            ),
            "ply",
        ),
        (
            "PLY of 50,000 columns",
            ply("element vertex 1", *xyz, *(f"property float a{i}" for i in range(50_000))),
            "ply",
        ),
        ("PLY without end", b"ply\n" + b"comment a\n" * 100_000, "ply"),
        ("STL of 10^9 triangles", bytes(80) + struct.pack("<I", MANY) + bytes(50), "stl"),
        ("STL of 2³² − 1 triangles", bytes(80) + struct.pack("<I", 2**32 - 1) + bytes(50), "stl"),
        ("STL of words", b"solid a\n" + b"vertex 0 0\n" * 1000, "stl"),
        ("OFF of 10^9 points", f"OFF\n{MANY} {MANY} 0\n0 0 0\n".encode(), "off"),
        ("OFF of a face of 10^9 corners", f"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n{MANY} 0 1 2\n".encode(), "off"),
        ("OFF of −3 points", b"OFF\n-3 -1 0\n", "off"),
        ("OBJ of a face that is nowhere", (CORNERS + "f 1 2 1000000000\n").encode(), "obj"),
        ("OBJ of a face of 10^5 corners", (CORNERS + "f" + " 1" * 100_000 + "\n").encode(), "obj"),
        ("OBJ of NaN", b"v nan nan nan\nv inf 0 0\nv 0 1 0\nf 1 2 3\n", "obj"),
        ("OBJ of 1e999", b"v 1e999 0 0\nv 1e300 0 0\nv 0 1e300 0\nf 1 2 3\n", "obj"),
        ("PCD of 10^9 points", pcd(MANY, "binary", triangle), "pcd"),
        ("PCD of 10^9 points in text", pcd(MANY, "ascii", b"0 0 0\n"), "pcd"),
        (
            "PCD that inflates to 2³²",
            pcd(MANY // 3, "binary_compressed", struct.pack("<II", 64, 2**32 - 1) + bytes(64)),
            "pcd",
        ),
        (
            "PCD of copies",
            pcd(
                10**6, "binary_compressed", struct.pack("<II", 30_003, 12 * 10**6) + b"\0\0\0" + b"\xe0\xff\0" * 10_000
            ),
            "pcd",
        ),
        ("PCD of sizes of 10^9", pcd(1, "binary", triangle).replace(b"SIZE 4 4 4", b"SIZE 999999999 4 4"), "pcd"),
        ("glTF of 10^9 rows", gltf("data:;base64,", accessors=[{**accessor, "bufferView": 0, "count": MANY}]), "gltf"),
        ("glTF of 10^9 rows of nothing", gltf("data:;base64,", accessors=[{**accessor, "count": MANY}]), "gltf"),
        (
            "glTF of rows below zero",
            gltf("data:;base64,", accessors=[{**accessor, "bufferView": 0, "count": -3}]),
            "gltf",
        ),
        ("glTF of nodes in a ring", gltf("data:;base64," + "A" * 48, nodes=[{"mesh": 0, "children": [0]}]), "gltf"),
        ("glTF of 5,000 nodes in nodes", gltf("data:;base64," + "A" * 48, nodes=nodes), "gltf"),
        ("glTF compressed", gltf("data:;base64,", extensionsRequired=["KHR_draco_mesh_compression"]), "gltf"),
        ("glTF deep", b'{"asset":' + b"[" * 100_000, "gltf"),
        ("GLB of 2³² bytes", glb(b"{}", 2**32 - 1), "glb"),
        ("GLB of JSON of 2³¹", b"glTF" + struct.pack("<III4s", 2, 20, 2**31, b"JSON"), "glb"),
        ("a picture as PLY", small("PNG"), "ply"),
        ("nothing", b"", "obj"),
    ]
    refused = [file(kind, name, "points", data, suffix) for name, data, suffix in whole]
    return [one.but(fits=EITHER) if ("nodes in" in one.name or "corners" in one.name) else one for one in refused]
