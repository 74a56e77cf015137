"""Files of shapes that are cut: every format whose header counts says so, with one reason."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable

import numpy as np
import pytest
import trimesh

from align.media.npy import read_npy
from align.media.shapes.mesh import SUFFIXES, read_cloud
from align.values import BadSample

PLACES = (0.3, 0.4, 0.5, 0.7, 0.9, 0.97)


def ball() -> trimesh.Trimesh:
    mesh = trimesh.creation.icosphere(2)
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=np.tile([255, 0, 51, 255], (len(mesh.vertices), 1)))
    return mesh


def scan(n: int = 200) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)


def ply(form: str, faces: bool = True) -> bytes:
    """A sphere with colours, of triangles, a quad and a pentagon: lists of differing length."""
    mesh = ball()
    head = f"ply\nformat {form} 1.0\nelement vertex {len(mesh.vertices)}\n"
    head += "".join(f"property float {axis}\n" for axis in "xyz")
    head += "".join(f"property uchar {name}\n" for name in ("red", "green", "blue"))
    polygons = [list(map(int, face)) for face in mesh.faces] + [[0, 1, 2, 3], [0, 1, 2, 3, 4]]
    if faces:
        head += f"element face {len(polygons)}\nproperty list uchar int vertex_indices\n"
    out = (head + "end_header\n").encode()
    order = ">" if "big" in form else "<"
    for x, y, z in mesh.vertices.tolist():
        if form == "ascii":
            out += f"{x:.5f} {y:.5f} {z:.5f} 255 0 51\n".encode()
        else:
            out += struct.pack(f"{order}fffBBB", x, y, z, 255, 0, 51)
    for polygon in polygons if faces else ():
        if form == "ascii":
            out += f"{len(polygon)} {' '.join(map(str, polygon))}\n".encode()
        else:
            out += struct.pack(f"{order}B{len(polygon)}i", len(polygon), *polygon)
    return out


def off(keyword: str = "OFF") -> bytes:
    mesh = ball()
    more = (" 0 0 1" if "N" in keyword else "") + (" 255 0 51 255" if "C" in keyword else "")
    rows = [f"{x:.5f} {y:.5f} {z:.5f}{more}" for x, y, z in mesh.vertices.tolist()]
    rows += [f"3 {a} {b} {c}" for a, b, c in mesh.faces.tolist()]
    return f"{keyword}\n{len(mesh.vertices)} {len(mesh.faces)} 0\n".encode() + "\n".join(rows).encode() + b"\n"


def literal(data: bytes) -> bytes:
    """LZF that copies nothing."""
    pieces = [data[i : i + 32] for i in range(0, len(data), 32)]
    return b"".join(bytes([len(piece) - 1]) + piece for piece in pieces)


def pcd(form: str, xyz: np.ndarray | None = None, rgb: int = 0xFF0033) -> bytes:
    xyz = scan() if xyz is None else xyz
    n = len(xyz)
    head = "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F U\nCOUNT 1 1 1 1\n"
    head += f"WIDTH {n}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {n}\nDATA {form}\n"
    rows = np.empty(n, [("xyz", "<f4", 3), ("rgb", "<u4")])
    rows["xyz"], rows["rgb"] = xyz, rgb
    if form == "ascii":
        return head.encode() + "".join(f"{x:.6f} {y:.6f} {z:.6f} {rgb}\n" for x, y, z in xyz.tolist()).encode()
    if form == "binary":
        return head.encode() + rows.tobytes()
    columns = b"".join(rows["xyz"][:, i].tobytes() for i in range(3)) + rows["rgb"].tobytes()
    packed = literal(columns)
    return head.encode() + struct.pack("<II", len(packed), len(columns)) + packed


WHOLE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "ply text": ("ply", lambda: ply("ascii")),
    "ply little": ("ply", lambda: ply("binary_little_endian")),
    "ply big": ("ply", lambda: ply("binary_big_endian")),
    "ply text scan": ("ply", lambda: ply("ascii", faces=False)),
    "ply little scan": ("ply", lambda: ply("binary_little_endian", faces=False)),
    "ply of trimesh": ("ply", lambda: bytes(ball().export(file_type="ply"))),
    "off": ("off", off),
    "coff": ("off", lambda: off("COFF")),
    "noff": ("off", lambda: off("NOFF")),
    "cnoff": ("off", lambda: off("CNOFF")),
    "stl": ("stl", lambda: bytes(ball().export(file_type="stl"))),
    "stl text": ("stl", lambda: str(ball().export(file_type="stl_ascii")).encode()),
    "glb": ("glb", lambda: bytes(ball().export(file_type="glb"))),
    "gltf": ("gltf", lambda: ball().export(file_type="gltf")["model.gltf"]),
    "pcd text": ("pcd", lambda: pcd("ascii")),
    "pcd binary": ("pcd", lambda: pcd("binary")),
    "pcd compressed": ("pcd", lambda: pcd("binary_compressed")),
}


def test_every_format_with_a_header_is_in_the_table():
    assert {suffix for suffix, _ in WHOLE.values()} == {*SUFFIXES} - {"obj"}


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_that_is_cut(tmp_path, name):
    suffix, make = WHOLE[name]
    data = make()
    path = tmp_path / f"a.{suffix}"
    for file, content in ball().export(file_type="gltf").items():
        (tmp_path / file).write_bytes(content)
    path.write_bytes(data)
    points, notes = read_cloud(path, 300)
    assert len(points) >= 162  # a scan keeps its vertices
    assert notes == []
    for share in PLACES:
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(BadSample, match=r"points/truncated: .*a\.\w+: ") as caught:
            read_cloud(path, 300)
        assert caught.value.reason == "points/truncated", share
        with pytest.raises(BadSample, match="points/truncated"):  # as bytes of a shard
            read_cloud(path.read_bytes(), 300, suffix=suffix)


@pytest.mark.parametrize("name", [name for name in WHOLE if name not in ("glb", "gltf", "stl text", "pcd compressed")])
def test_the_counts_are_said(tmp_path, name):
    suffix, make = WHOLE[name]
    data = make()
    with pytest.raises(BadSample, match=r"its header says \d+ .*, \d+ are there$"):
        read_cloud(data[: int(0.9 * len(data))], 300, suffix=suffix)


def test_a_bin_beside_a_gltf_that_is_cut_or_gone(tmp_path):
    for file, content in ball().export(file_type="gltf").items():
        (tmp_path / file).write_bytes(content)
    buffer = next(tmp_path.glob("*.bin"))
    assert len(read_cloud(tmp_path / "model.gltf", 50).points) == 50
    for share in PLACES:
        buffer.write_bytes(bytes(buffer.read_bytes()[: int(share * buffer.stat().st_size)]))
        with pytest.raises(BadSample, match=rf"points/truncated: .*{buffer.name}, \d+ are there"):
            read_cloud(tmp_path / "model.gltf", 50)
    buffer.unlink()
    with pytest.raises(BadSample, match=rf"points/incomplete: .*{buffer.name} is not there"):
        read_cloud(tmp_path / "model.gltf", 50)
    with pytest.raises(BadSample, match=r"points/incomplete: .*given as bytes"):
        read_cloud((tmp_path / "model.gltf").read_bytes(), 50, suffix="gltf")


def test_arrays_that_are_cut(tmp_path):
    import io

    file = io.BytesIO()
    np.save(file, scan())
    data = file.getvalue()
    for share in PLACES:
        with pytest.raises(BadSample, match="points/truncated"):
            read_npy(io.BytesIO(data[: int(share * len(data))]), "points", limit=10**6)


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        ("obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n"),
        ("obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nf 1/1 2/1 9/1\n"),
        ("off", "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n"),
        ("off", "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 -1\n"),
        (
            "ply",
            "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
            "element face 1\nproperty list uchar int vertex_index\nend_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 5\n",
        ),
    ],
)
def test_a_face_whose_corner_is_not_there(suffix, text):
    with pytest.raises(BadSample, match="points/corrupt: a face names"):
        read_cloud(text.encode(), 10, suffix=suffix)


def test_text_of_an_older_system_is_read(tmp_path):
    """trimesh asks for another library where a text is not UTF-8."""
    (tmp_path / "a.obj").write_bytes("# Größe\nv 0 0 0\nv 1 0 0\nv 0 1 0\nusemtl grün\nf 1 2 3\n".encode("latin-1"))
    assert read_cloud(tmp_path / "a.obj", 10).points.shape == (10, 3)


@pytest.mark.parametrize(
    ("suffix", "head", "reason"),
    [
        ("ply", "ply\nformat ascii 1.0\nelement vertex 99999999999\nproperty float x\nend_header\n1\n", "truncated"),
        (
            "ply",
            "ply\nformat binary_little_endian 1.0\nelement face 2\nproperty list uint double v\nend_header\n"
            "\xff\xff\xff\xff",
            "corrupt",
        ),
        ("off", "OFF 999999999 99999999 0\n0 0 0\n", "truncated"),
        ("stl", "x" * 80 + "\xff\xff\xff\x00" + "y" * 60, "truncated"),
        ("pcd", "VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nWIDTH 999999\nHEIGHT 999999\nDATA binary\n", "too-large"),
        ("pcd", "VERSION .7\nFIELDS x y z\nSIZE 8 8 8\nCOUNT 1 1 99999999\nWIDTH 9\nDATA ascii\n1", "too-large"),
        ("pcd", "VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nWIDTH 9\nHEIGHT 2\nPOINTS 7\nDATA ascii\n1", "corrupt"),
        (
            "gltf",
            '{"asset": {}, "accessors": [{"count": 99999999999, "componentType": 5126, "type": "VEC3"}]}',
            "too-large",
        ),
        (  # 512 MB of zeros each
            "gltf",
            '{"asset": {}, "accessors": [' + ", ".join(['{"count": 8000000, "type": "MAT4"}'] * 9) + "]}",
            "too-large",
        ),
        ("gltf", '{"asset": {}, "buffers": [{"byteLength": 99999999, "uri": "data:;base64,AAAA"}]}', "truncated"),
        ("obj", "".join(f"usemtl m{i}\nf 1 1 1\n" for i in range(3000)), "too-large"),
    ],
)  # fmt: skip
def test_counts_that_no_file_could_hold(suffix, head, reason):
    """Refused by the header: nothing of that size is made."""
    import tracemalloc

    data = head.encode("latin-1")
    tracemalloc.start()
    with pytest.raises(BadSample, match=f"points/{reason}"):
        read_cloud(data, 10, suffix=suffix)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_message_is_short_whatever_the_header_holds():
    names = "".join(f"property float p{i}\n" for i in range(9000))
    data = f"ply\nformat ascii 1.0\nelement vertex 1\n{names}end_header\n{'0 ' * 9000}".encode()
    with pytest.raises(BadSample, match="points/unreadable: its vertices have p0, p1") as caught:
        read_cloud(data, 10, suffix="ply")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extensionsRequired": ["EXT_meshopt_compression"]}, "it is compressed"),
        ({"extensionsRequired": ["KHR_draco_mesh_compression"]}, "it is compressed"),
        ({"accessors": [{"componentType": 5126, "count": 3, "type": "VEC3", "sparse": {"count": 3}}]}, "sparse"),
    ],
)
def test_arrays_of_a_gltf_that_would_be_read_as_zeros(change, message):
    tree = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [{"componentType": 5126, "count": 3, "type": "VEC3"}],
    }
    with pytest.raises(BadSample, match=f"points/unreadable: .*{message}"):
        read_cloud(json.dumps(tree | change).encode(), 10, suffix="gltf")
