"""Files that a shape refers to: missing ones leave no colour and are noted; none outside its folder is read."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from align.curation import build
from align.curation.check.diagnosis import diagnose
from align.data import Shards
from align.media.shapes.mesh import read_cloud
from align.media.shapes.neighbours import Neighbours
from align.preprocess import Points

MISSING = "points/colour-missing"
OBJ = "mtllib {mtl}\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl skin\nf 1/1 2/2 3/3\n"
PLY = """ply
format ascii 1.0
comment TextureFile {texture}
element vertex 3
property float x
property float y
property float z
property float s
property float t
element face 1
property list uchar int vertex_indices
end_header
0 0 0 0 0
1 0 0 1 0
0 1 0 0 1
3 0 1 2
"""


def picture(path: Path, colour: tuple[int, int, int] = (255, 51, 0)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)


def obj(folder: Path, texture: str = "skin.png", mtl: str = "a.mtl") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.obj").write_text(OBJ.format(mtl=mtl))
    (folder / "a.mtl").write_text(f"newmtl skin\nKd 1 1 1\nmap_Kd {texture}\n")
    return folder / "a.obj"


def ply(folder: Path, texture: str = "skin.png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.ply").write_text(PLY.format(texture=texture))
    return folder / "a.ply"


def gltf(folder: Path, texture: str = "skin.png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    mesh = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    image = Image.new("RGB", (8, 8), (255, 51, 0))
    mesh.visual = trimesh.visual.TextureVisuals(uv=[[0, 0], [1, 0], [0, 1]], image=image)
    for name, content in mesh.export(file_type="gltf").items():
        (folder / name).write_bytes(content)
    tree = json.loads((folder / "model.gltf").read_bytes())
    tree["images"] = [{"uri": texture}]
    (folder / "model.gltf").write_text(json.dumps(tree))
    return folder / "model.gltf"


SHAPES = {"obj": obj, "ply": ply, "gltf": gltf}


@pytest.mark.parametrize("suffix", SHAPES)
def test_a_texture_that_is_there_and_one_that_is_not(tmp_path, suffix):
    path = SHAPES[suffix](tmp_path)
    picture(tmp_path / "skin.png")
    points, notes = read_cloud(path, 30)
    assert np.allclose(points[:, 3:], [1, 0.2, 0], atol=0.01)
    assert notes == []
    (tmp_path / "skin.png").unlink()
    points, notes = read_cloud(path, 30)
    assert points.shape == (30, 3)  # no colour, where it was white or grey
    assert notes == [(MISSING, "skin.png is not there")]
    (tmp_path / "skin.png").write_bytes(b"<html>")
    points, notes = read_cloud(path, 30)
    assert points.shape == (30, 3)
    assert notes[0].detail.startswith("skin.png: no picture that can be read")
    picture(tmp_path / "skin.png")
    (tmp_path / "skin.png").write_bytes((tmp_path / "skin.png").read_bytes()[:-30])
    points, notes = read_cloud(path, 30)
    assert points.shape == (30, 3)
    assert [note.reason for note in notes] == [MISSING]


def test_materials_that_are_missing(tmp_path):
    path = obj(tmp_path)
    picture(tmp_path / "skin.png")
    (tmp_path / "a.mtl").write_text("newmtl other\nKd 1 0 0\n")
    points, notes = read_cloud(path, 30)
    assert points.shape == (30, 3)
    assert notes == [(MISSING, "a.mtl has no material 'skin'")]
    (tmp_path / "a.mtl").unlink()
    points, notes = read_cloud(path, 30)
    assert points.shape == (30, 3)
    assert notes == [(MISSING, "a.mtl is not there")]
    path.write_text(path.read_text().removeprefix("mtllib a.mtl\n"))
    assert read_cloud(path, 30).notes == [(MISSING, "material 'skin' is of no .mtl file")]


def test_a_material_that_nothing_wears_is_not_missed(tmp_path):
    path = obj(tmp_path)
    picture(tmp_path / "skin.png")
    with (tmp_path / "a.mtl").open("a") as file:
        file.write("newmtl spare\nmap_Kd gone.png\n")
    points, notes = read_cloud(path, 30)
    assert np.allclose(points[:, 3:], [1, 0.2, 0], atol=0.01)
    assert notes == []


def test_one_texture_of_two(tmp_path):
    path = obj(tmp_path)
    picture(tmp_path / "skin.png")
    text = path.read_text() + "v 0 0 5\nv 1 0 5\nv 0 1 5\nusemtl bone\nf 4/1 5/2 6/3\n"
    path.write_text(text)
    with (tmp_path / "a.mtl").open("a") as file:
        file.write("newmtl bone\nmap_Kd bone.png\n")
    points, notes = read_cloud(path, 200)
    bone = points[:, 2] > 1
    assert np.allclose(points[bone, 3:], 0.4)
    assert np.allclose(points[~bone, 3:], [1, 0.2, 0], atol=0.01)
    assert notes == [(MISSING, "bone.png is not there")]


@pytest.mark.parametrize(
    "name",
    ["-s 1 1 1 skin.png", "my%20skin.png", r"C:\Users\me\skin.png", "/home/me/skin.png", r"textures\skin.png"],
)
def test_names_as_other_programs_write_them(tmp_path, name):
    picture(tmp_path / ("my skin.png" if "%" in name else "textures/skin.png" if "textures" in name else "skin.png"))
    points, notes = read_cloud(obj(tmp_path, name), 30)
    assert notes == []
    assert np.allclose(points[:, 3:], [1, 0.2, 0], atol=0.01)


@pytest.mark.parametrize("suffix", SHAPES)
def test_nothing_outside_the_folder_is_read_and_nothing_is_fetched(tmp_path, monkeypatch, suffix):
    secret = tmp_path / "secret.png"
    picture(secret)
    opened = []
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: opened.append(os.path.realpath(self)) or read(self))

    def no_network(*_args, **_kwargs):
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket, "create_connection", no_network)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    for i, name in enumerate(
        ["../secret.png", "x/../../secret.png", str(secret), "../../../../etc/passwd", "/etc/passwd", "..\\secret.png",
         "%2e%2e/secret.png", "file:///etc/passwd", "http://127.0.0.1:9/skin.png", "https://example.com/a.png"]
    ):  # fmt: skip
        folder = tmp_path / f"shape{i}"
        path = SHAPES[suffix](folder, name)
        points, notes = read_cloud(path, 30)
        assert points.shape == (30, 3), name
        assert [note.reason for note in notes] == [MISSING], name
        if name.startswith("http"):
            assert notes[0].detail == f"{name} is on a network; nothing is fetched"
        assert all(Path(one).is_relative_to(folder) for one in opened), name
        opened.clear()


def test_a_mtl_and_a_bin_outside_the_folder(tmp_path):
    path = obj(tmp_path / "in", mtl="../a.mtl")
    (tmp_path / "in" / "a.mtl").rename(tmp_path / "a.mtl")
    picture(tmp_path / "in" / "skin.png")
    points, notes = read_cloud(path, 30)
    assert points.shape == (30, 3)
    assert notes == [(MISSING, "../a.mtl lies outside the folder")]
    path = gltf(tmp_path / "model")
    tree = json.loads(path.read_bytes())
    tree["buffers"][0]["uri"] = "../../../etc/passwd"
    path.write_text(json.dumps(tree))
    with pytest.raises(Exception, match=r"points/incomplete: .*etc/passwd lies outside the folder"):
        read_cloud(path, 30)


def test_a_wider_folder_may_be_named(tmp_path):
    """ShapeNet keeps its pictures in a folder beside the model's; a build may read all of the tree it was given."""
    path = obj(tmp_path / "tree" / "chair" / "models", "../images/skin.png")
    picture(tmp_path / "tree" / "chair" / "images" / "skin.png")
    assert read_cloud(path, 30).points.shape == (30, 3)
    points, notes = read_cloud(path, 30, within=tmp_path / "tree")
    assert np.allclose(points[:, 3:], [1, 0.2, 0], atol=0.01)
    assert notes == []
    assert isinstance(Neighbours(path, tmp_path / "tree").find("../../../secret.png"), str)


def test_a_shape_given_as_bytes_has_no_neighbours(tmp_path):
    picture(tmp_path / "skin.png")
    data = obj(tmp_path).read_bytes()
    points, notes = read_cloud(data, 30, suffix="obj")
    assert points.shape == (30, 3)
    assert notes == [(MISSING, "a.mtl is not at hand: a shape given as bytes has no files beside it")]


def test_reading_one_for_a_tower_warns(tmp_path):
    path = obj(tmp_path)
    with pytest.warns(UserWarning, match=r"a\.obj is read without colour: skin\.png is not there"):
        assert (Points().decode(path)[:, 3:] == 0.4).all()
    Points(color=False).decode(path)  # nothing is missing


def test_a_build_and_a_check_say_it(tmp_path, capsys):
    from align.commands import main

    for name in ("whole", "bare", "lone"):
        path = obj(tmp_path / "in" / name)
        path.rename(path.with_name(f"{name}.obj"))
    (tmp_path / "in" / "lone" / "a.mtl").unlink()
    (tmp_path / "in" / "whole" / "a.mtl").write_text("newmtl skin\nKd 1 .2 0\n")
    assert main(["shards", "build", str(tmp_path / "in"), str(tmp_path / "out"), "--points", "80"]) == 0
    said = capsys.readouterr().out
    assert "train-*.tar: 3 samples" in said
    assert "noted: 2 " in said
    assert "unreadable" not in said
    lines = [json.loads(line) for line in (tmp_path / "out" / "train-bad.jsonl").read_text().splitlines()]
    said = [
        ("bare_bare", f"{tmp_path / 'in/bare/bare.obj'}: skin.png is not there"),
        ("lone_lone", f"{tmp_path / 'in/lone/lone.obj'}: a.mtl is not there"),
    ]
    assert lines == [{"key": k, "member": "points.npy", "reason": MISSING, "detail": detail} for k, detail in said]
    found = {f.reason: f for f in diagnose(tmp_path / "out" / "*.tar").findings}
    assert (found[MISSING].count, found[MISSING].severity) == (2, "warning")
    assert [(e.place.key, e.detail) for e in found[MISSING].examples] == said
    assert main(["shards", "check", str(tmp_path / "out"), "--json"]) == 0
    assert "skin.png is not there" in capsys.readouterr().out
    shapes = {
        s["__key__"]: Points(points=80).decode(s["points.npy"]) for s in Shards(tmp_path / "out" / "*.tar").samples(0)
    }
    assert (shapes["bare_bare"][:, 3:] == 0.4).all()
    assert not (shapes["whole_whole"][:, 3:] == 0.4).any()


def test_a_program_that_gives_meshes(tmp_path):
    """As a Path it finds its texture, as bytes it cannot; either way it becomes a cloud that training reads."""
    path = obj(tmp_path / "in")
    picture(tmp_path / "in" / "skin.png")
    samples = [("a", {"points.obj": path}), ("b", {"points.obj": path.read_bytes(), "text.txt": "a triangle"})]
    assert build(samples, tmp_path / "out", points=70) == {"train": 2, "left out": 0, "noted": 1}
    found = {s["__key__"]: s for s in Shards(tmp_path / "out" / "*.tar").samples(0)}
    clouds = {key: Points(points=70, preset="absolute").decode(sample["points.npy"]) for key, sample in found.items()}
    assert np.allclose(clouds["a"][:, 3:], [1, 0.2, 0], atol=0.01)
    assert (clouds["b"][:, 3:] == 0.4).all()
    rows = [{"points": {"bytes": path.read_bytes(), "path": "a.obj"}, "text": "a triangle"}]  # Hugging Face's way
    assert build(rows, tmp_path / "rows", points=70) == {"train": 1, "left out": 0, "noted": 1}
    again = build(str(tmp_path / "rows" / "*.tar"), tmp_path / "copied")
    assert again == {"train": 1, "left out": 0}
