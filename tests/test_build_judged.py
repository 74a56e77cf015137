"""A build judges what it writes as a check does: points that are not finite go and are counted, bad shapes are bad."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import trimesh
from PIL import Image
from test_shapes_cut import pcd, scan

from align.commands import main
from align.curation import Recode, build
from align.curation.check.diagnosis import diagnose
from align.data import Shards, TooManyBad
from align.media.shapes.mesh import read_cloud
from align.values import BadSample

DROPPED = "points/dropped"


def holes(n: int = 100) -> np.ndarray:
    """A scan of which each third point is none."""
    xyz = scan(n).copy()
    xyz[::3] = np.nan
    xyz[1, 2] = np.inf
    return xyz


def ply(xyz: np.ndarray) -> bytes:
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(xyz)}\n"
    return (head + "property float x\nproperty float y\nproperty float z\nend_header\n").encode() + xyz.tobytes()


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def listed(out: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (out / "train-bad.jsonl").read_text().splitlines()]


def errors(out: Path) -> dict[str, int]:
    return {f.reason: f.count for f in diagnose(out / "*.tar").findings if f.severity == "error"}


def clouds(out: Path) -> dict[str, np.ndarray]:
    samples = Shards(out / "*.tar", shuffle=False).samples(0)
    return {s["__key__"]: np.load(io.BytesIO(s["points.npy"])) for s in samples if "points.npy" in s}


def test_points_of_scans_that_are_not_finite(tmp_path):
    xyz = holes()
    rgb = np.concatenate([xyz, np.full_like(xyz, 0.5)], 1)
    (tmp_path / "in").mkdir()
    for name, data in {
        "a.ply": ply(xyz),
        "b.pcd": pcd("binary", xyz),
        "c.pcd": pcd("ascii", xyz),
        "d.npy": npy(xyz),
        "e.npy": npy(rgb.astype(np.float16)),
        "f.obj": "".join(f"v {x} {y} {z}\n" for x, y, z in xyz.tolist()).encode(),
        "g.off": f"OFF\n100 0 0\n{''.join(f'{x} {y} {z}{chr(10)}' for x, y, z in xyz.tolist())}".encode(),
        "h.npy": npy(scan()),
    }.items():
        (tmp_path / "in" / name).write_bytes(data)
    assert build(tmp_path / "in", tmp_path / "out") == {"train": 8, "left out": 0, "noted": 7}
    found, good = clouds(tmp_path / "out"), np.isfinite(xyz).all(1)
    assert good.sum() == 65
    for key in "abcdefg":
        assert np.allclose(found[key][:, :3], xyz[good], atol=2e-3)
    assert found["e"].dtype == np.float16
    lines = listed(tmp_path / "out")
    assert [line["key"] for line in lines] == list("abcdefg")
    assert {line["reason"] for line in lines} == {DROPPED}
    assert all(line["detail"].endswith("35 of 100 points are not finite") for line in lines)
    assert errors(tmp_path / "out") == {}
    notes = {f.reason: f for f in diagnose(tmp_path / "out" / "*.tar").findings}
    assert (notes[DROPPED].count, notes[DROPPED].severity) == (7, "note")
    read = [s["points.npy"] for s in Shards(tmp_path / "out" / "*.tar", shuffle=False).samples(0)]
    assert read[-1] == npy(scan())  # what is whole is stored byte for byte


def meshes(vertex: list[float]) -> dict[str, bytes]:
    """Two triangles, of which one has that corner."""
    places = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 1], vertex]
    faces = [[0, 1, 2], [1, 3, 4]]
    lines = "".join(f"v {' '.join(map(str, p))}\n" for p in places) + "f 1 2 3\nf 2 4 5\n"
    off = "OFF\n5 2 0\n" + "".join(f"{' '.join(map(str, p))}\n" for p in places) + "3 0 1 2\n3 1 3 4\n"
    mesh = trimesh.Trimesh(places, faces, process=False)
    with np.errstate(invalid="ignore"):  # normals
        made = {suffix: bytes(mesh.export(file_type=suffix)) for suffix in ("glb", "ply", "stl")}
    return {"obj": lines.encode(), "off": off.encode(), **made}


@pytest.mark.parametrize("suffix", ["obj", "off", "glb", "ply", "stl"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_faces_that_touch_what_is_not_finite(suffix, value):
    data = meshes([0, value, 0])[suffix]
    points, notes = read_cloud(data, 400, suffix=suffix)
    assert points.shape == (400, 3)
    assert np.allclose(points[:, 2], 0)  # all on the good face
    assert (points[:, :2].sum(1) <= 1 + 1e-6).all()
    assert notes == [(DROPPED, "1 of 2 faces have a corner that is not finite")]


def test_shapes_without_finite_points_are_bad(tmp_path):
    nothing = np.full((5, 3), np.nan, np.float32)
    (tmp_path / "in").mkdir()
    files = {
        "a.ply": ply(nothing),
        "b.pcd": pcd("binary", nothing),
        "c.npy": npy(nothing),
        "d.obj": b"v nan 0 0\nv nan 1 0\nv nan 0 1\nf 1 2 3\n",
        "e.npy": npy(scan() * 1e9),
        "f.npy": npy(np.zeros((4, 2))),
        "g.off": b"OFF\n0 0 0\n",
        "h.obj": b"v 0 0 0\nv 1e200 0 0\nv 0 1e200 0\nf 1 2 3\n",
        "i.npy": npy(np.concatenate([scan(), scan() * 0 + 7], 1)),
        "j.npy": npy(scan())[:-1],
        "z.npy": npy(scan()),
    }
    for name, data in files.items():
        (tmp_path / "in" / name).write_bytes(data)
    with pytest.raises(TooManyBad, match=r"10 of 11 samples .* are bad"):
        build(tmp_path / "in", tmp_path / "strict")
    assert build(tmp_path / "in", tmp_path / "out", max_bad=1) == {"train": 1, "left out": 0, "bad": 10}
    reasons = {line["key"]: line["reason"].removeprefix("points/") for line in listed(tmp_path / "out")}
    non_finite = dict.fromkeys("abcd", "non-finite")
    others = {"e": "range", "f": "shape", "g": "empty", "h": "range", "i": "colour", "j": "truncated"}
    assert reasons == {**non_finite, **others}
    assert errors(tmp_path / "out") == {}
    for name in "abd":
        path = next((tmp_path / "in").glob(f"{name}.*"))
        with pytest.raises(BadSample, match=r"points/non-finite: .*no point or face that is finite"):
            read_cloud(path, 10)


def test_what_other_sources_bring_is_judged_too(tmp_path):
    """A program's arrays, tables, other shards, in processes, and clouds in another precision."""
    samples = [
        ("a", {"points.npy": holes()}),
        ("b", {"points.npy": np.full((5, 3), np.nan)}),
        ("c", {"points.npy": scan()}),
    ]
    expected = {"train": 2, "left out": 0, "bad": 1, "noted": 1}
    assert build(samples, tmp_path / "given", max_bad=1, workers=2) == expected
    rows = [{"points": {"bytes": npy(s["points.npy"]), "path": "x.npy"}, "text": key} for key, s in samples]
    assert build(rows, tmp_path / "rows", max_bad=1) == {**expected, "train": 3}
    from align.data import ShardWriter

    with ShardWriter(tmp_path / "foreign", "train") as writer:
        for key, members in samples:
            writer.write(key, {name: npy(array) for name, array in members.items()})
    half = Recode(points_dtype="float16")
    assert build(tmp_path / "foreign", tmp_path / "again", max_bad=1, recode=half) == expected
    for name in ("given", "rows", "again"):
        assert errors(tmp_path / name) == {}
    assert {array.dtype for array in clouds(tmp_path / "again").values()} == {np.dtype(np.float16)}


def test_arrays_of_a_modality_of_ones_own(tmp_path):
    spoiled = np.ones((3, 4))
    spoiled[1, 1] = np.nan
    samples = [
        ("a", {"depth.npy": spoiled}),
        ("b", {"depth.npy": np.zeros((0, 4))}),
        ("c", {"depth.npy": np.ones((3, 4))}),
    ]
    assert build(samples, tmp_path / "out", max_bad=1) == {"train": 1, "left out": 0, "bad": 2}
    assert [line["reason"] for line in listed(tmp_path / "out")] == ["depth/non-finite", "depth/empty"]
    assert errors(tmp_path / "out") == {}


def picture(i: int, size: tuple[int, int], kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(i).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def wav(samples: int, rate: int = 48000) -> bytes:
    out = io.BytesIO()
    wave = 0.5 * np.sin(np.arange(samples) * 0.1 + 1)
    soundfile.write(out, wave.astype(np.float32), rate, format="WAV", subtype="FLOAT")
    return out.getvalue()


@pytest.mark.parametrize(
    "recode",
    [
        Recode(image_size=8, sample_rate=8000),
        Recode(image_size=1, image_format="webp", audio_format="opus", sample_rate=8000),
        Recode(image_format="jpeg", image_quality=1, audio_format="ogg"),
    ],
    ids=["sizes", "webp and opus", "jpeg and vorbis"],
)
def test_what_is_written_anew_can_be_read(tmp_path, recode):
    """Long and thin pictures, a sound of one sample: what a build makes of them has no error, or it is not written."""
    samples = {
        f"i{i}": {"image.png": picture(i, size)} for i, size in enumerate([(1, 1), (1, 300), (300, 2), (40, 50)])
    }
    samples |= {f"s{n}": {"audio.wav": wav(n)} for n in (1, 2, 5, 100, 5000)}
    built = build(list(samples.items()), tmp_path / "out", recode=recode, max_bad=1)
    assert built["train"] + built.get("bad", 0) == len(samples)
    assert built["train"] >= 6
    assert errors(tmp_path / "out") == {}


def test_real_meshes_in_a_folder(real_data, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("chair_A.obj", "chair_A.mtl", "food_burger.obj", "food_burger.mtl", "restaurantbits_texture.png"):
        (folder / name).symlink_to(real_data("kaykit") / name)
    build(folder, tmp_path / "out", points=256)
    assert {array.shape for array in clouds(tmp_path / "out").values()} == {(256, 6)}
    (folder / "restaurantbits_texture.png").unlink()
    assert build(folder, tmp_path / "bare", points=256)["noted"] == 2
    assert {array.shape for array in clouds(tmp_path / "bare").values()} == {(256, 3)}


def test_a_picture_is_noted_by_the_build_and_found_by_the_check_a_single_time(tmp_path):
    (tmp_path / "in").mkdir()
    values = np.random.default_rng(0).integers(0, 4096, (32, 32)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "in" / "a.png")
    Image.fromarray(values.astype(np.float32)).save(tmp_path / "in" / "b.tif")
    (tmp_path / "in" / "c.ply").write_bytes(ply(holes()))
    assert build(tmp_path / "in", tmp_path / "out")["noted"] == 3
    counts = {f.reason: f.count for f in diagnose(tmp_path / "out" / "*.tar").findings}
    assert {r: counts[r] for r in ("image/low-range", "image/own-range", DROPPED)} == dict.fromkeys(
        ("image/low-range", "image/own-range", DROPPED), 1
    )


def test_the_table_of_too_many_has_the_faults_alone(tmp_path):
    (tmp_path / "in").mkdir()
    for name in "abc":
        (tmp_path / "in" / f"{name}.ply").write_bytes(ply(holes())[:-400])
        (tmp_path / "in" / f"{name}{name}.ply").write_bytes(ply(holes()))
    with pytest.raises(TooManyBad, match="3 of 6 samples in all are bad") as stopped:
        build(tmp_path / "in", tmp_path / "out")
    assert "points/truncated" in str(stopped.value)
    assert DROPPED not in str(stopped.value)
    assert stopped.value.counts[DROPPED] == 3


def test_suffixes_that_are_not_read_are_named(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.ply").write_bytes(ply(scan()))
    for name in ("a.WMA", "b.wma", "notes.md", "LICENCE", ".hidden"):
        (tmp_path / "in" / name).write_bytes(b"x")
    assert main(["shards", "build", str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "left out: 4" in out
    assert "suffixes that are not read: none 1, .md 1, .wma 2" in out
    assert f"convert it: `ffmpeg -i {tmp_path}/in/a.WMA {tmp_path}/in/a.flac`" in out


def test_a_link_to_nothing_is_listed(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "in" / name).mkdir(parents=True)
        np.save(tmp_path / "in" / name / "cloud.npy", np.random.default_rng(0).random((100, 3)))
    (tmp_path / "in" / "b" / "gone.PLY").symlink_to("nowhere.ply")  # not fetched, as git-annex leaves it
    counts = build(tmp_path / "in", tmp_path / "out", max_bad=1.0)
    assert counts == {"train": 3, "left out": 0, "bad": 1}  # its caption and label stay
    line = json.loads((tmp_path / "out" / "train-bad.jsonl").read_text())
    assert (line["key"], line["reason"]) == ("b_gone", "points/unreadable")
    assert "gone.PLY is a link to a file that is not there" in line["detail"]
