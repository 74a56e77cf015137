"""Meshes and scans become coloured clouds: even over the surface, the same each time, in the colour that is there."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from PIL import Image

from align.media.shapes.mesh import sample_mesh
from align.preprocess import Points
from align.values import BadSample


def box() -> trimesh.Trimesh:
    return trimesh.creation.box((1, 2, 3))


@pytest.mark.parametrize("suffix", ["ply", "obj", "off", "glb", "stl", "PLY"])
def test_formats(tmp_path, suffix):
    path = tmp_path / f"box.{suffix}"
    box().export(path, file_type=suffix.lower())
    xyz = sample_mesh(path, 4000)
    assert xyz.shape == (4000, 6)
    assert xyz.dtype == np.float32
    half = np.array([0.5, 1.0, 1.5])
    on = np.isclose(np.abs(xyz[:, :3]), half, atol=1e-5)
    assert on.any(1).all()  # each point lies on a face
    share = on.mean(0)  # faces of 2·3, 1·3 and 1·2, of 11 in all
    assert np.allclose(share, np.array([6, 3, 2]) / 11, atol=0.03)
    assert np.allclose(xyz[:, 3:], 0.4)
    assert np.array_equal(xyz, sample_mesh(path, 4000))
    assert not np.array_equal(xyz, sample_mesh(path, 4000, seed=1))
    assert Points(64).decode(str(path)).shape == (4096, 6)


def test_points_are_uniform_in_a_triangle(tmp_path):
    triangle = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    triangle.export(tmp_path / "a.ply")
    xyz = sample_mesh(tmp_path / "a.ply", 20_000)
    assert np.allclose(xyz[:, :3].mean(0), [1 / 3, 1 / 3, 0], atol=0.01)
    assert (xyz[:, 0] + xyz[:, 1] < 0.5).mean() == pytest.approx(0.25, abs=0.02)


def test_colours_of_vertices_faces_and_materials(tmp_path):
    painted = box()
    painted.visual = trimesh.visual.ColorVisuals(painted, vertex_colors=np.tile([255, 0, 51, 255], (8, 1)))
    painted.export(tmp_path / "vertex.ply")
    assert np.allclose(sample_mesh(tmp_path / "vertex.ply", 50)[:, 3:], [1, 0, 0.2])
    painted = box()
    painted.visual = trimesh.visual.ColorVisuals(painted, face_colors=np.tile([0, 255, 51, 255], (12, 1)))
    painted.export(tmp_path / "face.ply")
    assert np.allclose(sample_mesh(tmp_path / "face.ply", 50)[:, 3:], [0, 1, 0.2])
    (tmp_path / "m.mtl").write_text("newmtl red\nKd 1.0 0.0 0.0\n")
    (tmp_path / "m.obj").write_text("mtllib m.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nusemtl red\nf 1 2 3\n")
    assert np.allclose(sample_mesh(tmp_path / "m.obj", 50)[:, 3:], [1, 0, 0])


def test_colours_of_a_texture(tmp_path):
    texture = np.zeros((64, 64, 3), np.uint8)
    texture[:, 32:, 0] = 255  # the right half is red
    Image.fromarray(texture).save(tmp_path / "t.png")
    (tmp_path / "t.mtl").write_text("newmtl skin\nKd 1 1 1\nmap_Kd t.png\n")
    (tmp_path / "t.obj").write_text(
        "mtllib t.mtl\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
        "usemtl skin\nf 1/1 2/2 3/3\nf 1/1 3/3 4/4\n"
    )
    cloud = sample_mesh(tmp_path / "t.obj", 2000)
    clear = np.abs(cloud[:, 0] - 0.5) > 0.05  # away from the seam
    assert np.allclose(cloud[clear, 3], cloud[clear, 0] > 0.5, atol=0.01)
    assert np.allclose(cloud[:, 4:], 0)
    trimesh.load_scene(tmp_path / "t.obj").export(tmp_path / "t.glb")
    cloud = sample_mesh(tmp_path / "t.glb", 2000)
    clear = np.abs(cloud[:, 0] - 0.5) > 0.05
    assert np.allclose(cloud[clear, 3], cloud[clear, 0] > 0.5, atol=0.01)


def test_a_scene_keeps_its_places_and_colours(tmp_path):
    scene = trimesh.Scene()
    for at, colour in ((0, [255, 0, 0, 255]), (10, [0, 0, 255, 255])):
        part = trimesh.creation.box((1, 1, 1))
        part.visual = trimesh.visual.ColorVisuals(part, vertex_colors=np.tile(colour, (8, 1)))
        scene.add_geometry(part, transform=trimesh.transformations.translation_matrix([at, 0, 0]))
    scene.export(tmp_path / "s.glb")
    cloud = sample_mesh(tmp_path / "s.glb", 1000)
    right = cloud[:, 0] > 5
    assert 0.4 < right.mean() < 0.6
    assert np.allclose(cloud[right, 3:], [0, 0, 1], atol=0.01)
    assert np.allclose(cloud[~right, 3:], [1, 0, 0], atol=0.01)


def test_a_scan_has_points_and_no_faces(tmp_path):
    xyz = np.random.default_rng(0).random((70, 3))
    trimesh.PointCloud(xyz, colors=np.tile([255, 0, 0, 255], (70, 1))).export(tmp_path / "scan.ply")
    cloud = sample_mesh(tmp_path / "scan.ply", 10)
    assert cloud.shape == (70, 6)
    assert np.allclose(cloud[:, :3], xyz, atol=1e-6)
    assert np.allclose(cloud[:, 3:], [1, 0, 0])
    trimesh.PointCloud(xyz).export(tmp_path / "bare.ply")
    assert np.allclose(sample_mesh(tmp_path / "bare.ply", 10)[:, 3:], 0.4)


@pytest.mark.parametrize("suffix", ["ply", "obj", "off", "glb", "stl"])
def test_what_is_no_mesh(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    for content in (b"", b"nothing here", bytes(range(256))):
        path.write_bytes(content)
        with pytest.raises(BadSample, match=rf"points/(unreadable|empty): .*a\.{suffix}"):
            sample_mesh(path, 10)
    with pytest.raises(FileNotFoundError, match="no such file"):
        sample_mesh(tmp_path / f"b.{suffix}", 10)


def test_a_mesh_of_no_area_is_its_corners(tmp_path):
    (tmp_path / "line.obj").write_text("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n")
    cloud = sample_mesh(tmp_path / "line.obj", 10)
    assert len(cloud) >= 2
    assert np.isfinite(cloud).all()


def test_a_face_that_is_not_a_number_is_left_out(tmp_path):
    (tmp_path / "n.obj").write_text("v 0 0 0\nv nan 0 0\nv 0 1 0\nv 1 0 0\nv 1 1 1\nf 1 2 3\nf 1 4 5\n")
    assert np.isfinite(sample_mesh(tmp_path / "n.obj", 100)).all()


def test_real_meshes(real_data):
    folder = real_data("kaykit")
    for name in ("chair_A", "food_burger", "wall_decorated"):
        cloud = sample_mesh(folder / f"{name}.obj", 2048)
        assert cloud.shape == (2048, 6)
        assert len(np.unique(cloud[:, 3:].round(1), axis=0)) > 3  # its texture was found
