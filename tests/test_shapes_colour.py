"""Colours under the names and in the types that writers give them; what has none is not counted as coloured."""

from __future__ import annotations

import io
import json
import struct

import numpy as np
import pytest
from test_shapes_cut import pcd

from align.curation import build
from align.curation.check.diagnosis import diagnose
from align.curation.look import describe
from align.curation.stats import measure
from align.data import Shards
from align.media.shapes.array import has_colour
from align.media.shapes.mesh import read_cloud, sample_mesh
from align.preprocess import Points

RED = [1.0, 0.2, 0.0]  # 255, 51, 0 of 255
KINDS = {"uchar": ("B", 255), "ushort": ("H", 65535), "float": ("f", 1), "double": ("d", 1), "int": ("i", 255)}
TRIANGLE = "0 0 0\n1 0 0\n0 1 0\n"


def text(values: list[float], full: float) -> str:
    return " ".join(f"{v * full:g}" if full == 1 else str(round(v * full)) for v in values)


def ply(names: str, kind: str, form: str = "ascii", faces: bool = True, full: float | None = None) -> bytes:
    letter, most = KINDS[kind]
    full = most if full is None else full
    head = f"ply\nformat {form} 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    head += "".join(f"property {kind} {name}\n" for name in names.split())
    head += "element face 1\nproperty list uchar int vertex_indices\n" if faces else ""
    out = (head + "end_header\n").encode()
    for x, y in ((0, 0), (1, 0), (0, 1)):
        if form == "ascii":
            out += f"{x} {y} 0 {text(RED, full)}\n".encode()
        else:
            order = ">" if "big" in form else "<"
            colour = [v * full if letter in "fd" else round(v * full) for v in RED]
            out += struct.pack(f"{order}fff3{letter}", x, y, 0, *colour)
    if faces:
        out += b"3 0 1 2\n" if form == "ascii" else struct.pack((">" if "big" in form else "<") + "B3i", 3, 0, 1, 2)
    return out


def colours(data: bytes, suffix: str) -> np.ndarray:
    points, _ = read_cloud(data, 40, suffix=suffix)
    assert points.shape[1] == 6
    return points[:, 3:]


@pytest.mark.parametrize("form", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "names", ["red green blue", "diffuse_red diffuse_green diffuse_blue", "r g b", "Red Green Blue"]
)
def test_colours_of_a_ply(names, kind, form):
    for faces in (True, False):
        assert np.allclose(colours(ply(names, kind, form, faces), "ply"), RED, atol=0.003)


def test_floats_up_to_255():
    assert np.allclose(colours(ply("red green blue", "float", full=255), "ply"), RED, atol=0.003)


def test_other_numbers_of_a_ply_are_no_colours():
    data = ply("f_dc_0 f_dc_1 f_dc_2", "float")  # of Gaussian splats: coefficients, not colours
    assert read_cloud(data, 40, suffix="ply").points.shape == (40, 3)


OFF = {
    "COFF of bytes": "COFF\n3 1 0\n0 0 0 255 51 0 255\n1 0 0 255 51 0 255\n0 1 0 255 51 0 255\n3 0 1 2\n",
    "COFF of floats": "COFF\n3 1 0\n0 0 0 1 .2 0 1\n1 0 0 1 .2 0 1\n0 1 0 1 .2 0 1\n3 0 1 2\n",
    "COFF without alpha": "COFF 3 1 0\n0 0 0 255 51 0\n1 0 0 255 51 0\n0 1 0 255 51 0\n3 0 1 2\n",
    "CNOFF": "CNOFF\n3 1 0\n0 0 0 0 0 1 255 51 0 255\n1 0 0 0 0 1 255 51 0 255\n0 1 0 0 0 1 255 51 0 255\n3 0 1 2\n",
    "faces": f"OFF\n3 1 0\n{TRIANGLE}3 0 1 2 255 51 0\n",
    "faces of floats": f"OFF\n3 1 0\n{TRIANGLE}3 0 1 2 1.0 0.2 0.0\n",
    "faces of two kinds": f"OFF\n4 2 0\n{TRIANGLE}1 1 0\n3 0 1 2 255 51 0 255\n4 0 1 3 2 255 51 0 255\n",
    "a scan": "COFF\n3 0 0\n0 0 0 255 51 0 255\n1 0 0 255 51 0 255\n0 1 0 255 51 0 255\n",
    "a remark": "COFF # colours\n3 1 0 # counts\n\n0 0 0 255 51 0 255\n1 0 0 255 51 0 255\n0 1 0 255 51 0 255\n3 0 1 2",
}


@pytest.mark.parametrize("name", OFF)
def test_colours_of_an_off(name):
    assert np.allclose(colours(OFF[name].encode(), "off"), RED, atol=0.003)


@pytest.mark.parametrize("content", [f"OFF\n3 1 0\n{TRIANGLE}3 0 1 2\n", f"OFF\n3 1 0\n{TRIANGLE}3 0 1 2 7\n"])
def test_an_off_without_colours(content):
    assert read_cloud(content.encode(), 40, suffix="off").points.shape == (40, 3)


@pytest.mark.parametrize("full", [1, 255])
@pytest.mark.parametrize("faces", ["f 1 2 3\n", ""])
def test_colours_of_an_objs_vertices(full, faces):
    lines = [f"v {place} {text(RED, full)}\n" for place in ("0 0 0", "1 0 0", "0 1 0")]
    assert np.allclose(colours("".join([*lines, faces]).encode(), "obj"), RED, atol=0.003)


def gltf(colour: np.ndarray, material: bool) -> bytes:
    """A triangle with COLOR_0 of that type, in one file."""
    import base64

    places = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], "<f4").tobytes()
    shades = colour.tobytes()
    kind = {"u1": 5121, "u2": 5123, "f4": 5126}[colour.dtype.str[1:]]
    packed = base64.b64encode(places + shades).decode()
    primitive: dict = {"attributes": {"POSITION": 0, "COLOR_0": 1}}
    tree = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "buffers": [{"uri": f"data:application/octet-stream;base64,{packed}", "byteLength": len(places + shades)}],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": len(places)},
            {"buffer": 0, "byteOffset": len(places), "byteLength": len(shades)},
        ],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"},
            {"bufferView": 1, "componentType": kind, "count": 3, "type": "VEC4", "normalized": True},
        ],
    }
    if material:
        primitive["material"] = 0
        tree["materials"] = [{"name": "plain"}]
    return json.dumps(tree).encode()


@pytest.mark.parametrize("material", [False, True])
@pytest.mark.parametrize(("kind", "full"), [("<u1", 255), ("<u2", 65535), ("<f4", 1)])
def test_colours_of_a_gltfs_vertices(kind, full, material):
    shade = np.array([*RED, 1]) * full
    data = gltf(np.tile(shade if full == 1 else shade.round(), (3, 1)).astype(kind), material)
    assert np.allclose(colours(data, "gltf"), RED, atol=0.003)


def test_a_material_that_states_no_colour(tmp_path):
    """trimesh gives it a grey of its own, .392 or .4."""
    corners = "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nusemtl skin\nf 1/1 2/1 3/1\n"
    (tmp_path / "a.mtl").write_text("newmtl skin\nNs 10\n")
    (tmp_path / "a.obj").write_text("mtllib a.mtl\n" + corners)
    assert read_cloud(tmp_path / "a.obj", 40).points.shape == (40, 3)
    (tmp_path / "a.mtl").write_text("newmtl skin\nKd 1 0.2 0\n")
    assert np.allclose(read_cloud(tmp_path / "a.obj", 40).points[:, 3:], RED, atol=0.003)
    assert np.allclose(sample_mesh(tmp_path / "a.obj", 40)[:, 3:], RED, atol=0.003)


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def test_grey_that_was_filled_in_is_no_colour():
    xyz = np.random.default_rng(0).normal(size=(100, 3))
    for dtype in (np.float16, np.float32, np.float64):
        grey = np.concatenate([xyz, np.full_like(xyz, 0.4)], 1).astype(dtype)
        assert not has_colour(grey)
        assert describe("points.npy", npy(grey))["colour"] is False
        assert has_colour(np.concatenate([grey[:-1], grey[-1:] * 0.5]))
    assert not has_colour(xyz)
    assert describe("points.npy", npy(np.concatenate([xyz, xyz**2 % 1], 1)))["colour"] is True


def test_what_has_no_colour_is_not_counted_as_coloured(tmp_path, capsys):
    """By stats, check and show: clouds made of files without colour, and older ones that were filled with grey."""
    from align.commands import main

    rng = np.random.default_rng(0)
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(6):
        xyz = rng.normal(size=(80, 3)) * [1, 2, 3 + i]
        (folder / f"c{i}.pcd").write_bytes(pcd("binary", xyz.astype(np.float32)))
        np.save(folder / f"g{i}.npy", np.concatenate([xyz + 9, np.full_like(xyz, 0.4)], 1).astype(np.float32))
    (folder / "o.off").write_text(f"OFF\n3 1 0\n{TRIANGLE}3 0 1 2\n")
    (folder / "p.ply").write_bytes(ply("diffuse_red diffuse_green diffuse_blue", "uchar"))
    assert build(folder, tmp_path / "out", points=80) == {"train": 14, "left out": 0}
    shards = Shards(tmp_path / "out" / "*.tar")
    assert measure(shards)["modalities"]["points"]["kinds"]["colour"] == {"with colour": 7, "without colour": 7}
    found = {finding.reason: finding for finding in diagnose(tmp_path / "out" / "*.tar").findings}
    assert found["points/colour-mixed"].count == 7
    build([("g", {"points.npy": np.load(folder / "g0.npy")})], tmp_path / "grey")
    for name, said in (("grey", "80×6 float32, without colour"), ("out", "80×6 float32")):
        assert main(["shards", "show", str(tmp_path / name)]) == 0
        assert f"80 points, {said} " in capsys.readouterr().out.replace("\n", " \n")
    reader = Points(points=16)
    for sample in shards.samples(0):
        rgb = reader.decode(sample["points.npy"])[:, 3:]
        assert (rgb == 0.4).all() == (sample["__key__"][0] in "go")
