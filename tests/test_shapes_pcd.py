"""PCD as depth cameras and PCL write it: three forms, organised clouds with holes, colours packed or apart."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from test_shapes_cut import literal, pcd, scan

from align.curation import build
from align.data import Shards
from align.media.shapes.lzf import inflate
from align.media.shapes.mesh import read_cloud
from align.preprocess import Points
from align.values import BadSample

FORMS = ["ascii", "binary", "binary_compressed"]
# written by pypcd4 1.5.1: 12 points (i % 4, i // 4, 2.5), the sixth NaN; red, green, blue in turn
FOREIGN = (
    b"VERSION 0.7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\nWIDTH 12\nHEIGHT 1\n"
    b"VIEWPOINT 0.0 0.0 0.0 1.0 0.0 0.0 0.0\nPOINTS 12\nDATA binary_compressed\n"
    b"H\x00\x00\x00\xc0\x00\x00\x00\x01\x00\x00@\x00\x01\x80? \x05\x00@ \x02 \x03@\x00\x01\xc0\x7f \x05 \x0b\xc0\x0f"
    b"\xe0\x07\x1f\xe0\x03\x00@\x1b@/@\x07@\x03@7\xe0\x03\x03\x00  G\xe0\x07\x03@/\xe0\x07\x13\xc0\x0f\x00\xff\xc0\x02"
    b" \x00\xe0\x17\x0b\x01\x00\x00"
)


@pytest.mark.parametrize("form", FORMS)
def test_the_three_forms(tmp_path, form):
    xyz = scan(50)
    (tmp_path / "a.PCD").write_bytes(pcd(form, xyz))
    points, notes = read_cloud(tmp_path / "a.PCD", 10)
    assert points.shape == (50, 6)  # a scan keeps its points
    assert np.allclose(points[:, :3], xyz, atol=1e-6)
    assert np.allclose(points[:, 3:], [1, 0, 0.2])
    assert notes == []
    decoded = Points(16, preset="absolute").decode(tmp_path / "a.PCD")
    assert np.array_equal(decoded.numpy(), points)


def test_a_file_of_another_program():
    points, notes = read_cloud(FOREIGN, 10, suffix="pcd")
    i = np.delete(np.arange(12), 5)
    assert np.allclose(points[:, :3], np.stack([i % 4, i // 4, np.full(11, 2.5)], 1))
    assert np.array_equal(points[:, 3:], np.eye(3)[i % 3])
    assert notes == [("points/dropped", "1 of 12 points are not finite")]


@pytest.mark.parametrize("compressed", [False, True])
def test_another_programs_writer(tmp_path, compressed):
    """The whole way, where pypcd4 is installed."""
    pypcd4 = pytest.importorskip("pypcd4")
    rng = np.random.default_rng(0)
    xyz, rgb = rng.normal(size=(3000, 3)).astype(np.float32).round(1), rng.integers(0, 256, (3000, 3))
    packed = pypcd4.PointCloud.encode_rgb(rgb.astype(np.uint8)).reshape(-1)
    cloud = pypcd4.PointCloud.from_points([*xyz.T, packed], ("x", "y", "z", "rgb"), (np.float32,) * 4)
    kind = pypcd4.Encoding.BINARY_COMPRESSED if compressed else pypcd4.Encoding.BINARY
    cloud.save(tmp_path / "a.pcd", encoding=kind)
    points, _ = read_cloud(tmp_path / "a.pcd", 10)
    assert np.array_equal(points[:, :3], xyz)
    assert np.array_equal((points[:, 3:] * 255).round(), rgb)


def fields(lines: str, rows: bytes) -> bytes:
    return f"# remark\nVERSION .7\n{lines}\nVIEWPOINT 0 0 0 1 0 0 0\nDATA binary\n".encode() + rows


def test_an_organised_cloud_with_holes_and_other_fields():
    """As a depth camera writes it: WIDTH × HEIGHT, NaN where it saw nothing, fields of padding and of lists."""
    kinds = [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("_", "u1", 4),
        ("rgba", "<u4"),
        ("n", "<f4", 3),
        ("_2", "u1", 2),
    ]
    rows = np.zeros(12, kinds)
    rows["x"], rows["y"], rows["z"] = np.arange(12) % 4, np.arange(12) // 4, 2.5
    rows["z"][[1, 5]] = np.nan
    rows["rgba"] = 0xFF << 24 | 0x33 << 8  # alpha 255, green 51
    head = "FIELDS x y z _ rgba normal _\nSIZE 4 4 4 1 4 4 1\nTYPE F F F U U F U\nCOUNT 1 1 1 4 1 3 2\n"
    points, notes = read_cloud(fields(head + "WIDTH 4\nHEIGHT 3\nPOINTS 12", rows.tobytes()), 10, suffix="pcd")
    keep = np.delete(np.arange(12), [1, 5])
    assert np.allclose(points[:, :3], np.stack([keep % 4, keep // 4, np.full(10, 2.5)], 1))
    assert np.allclose(points[:, 3:], [0, 0.2, 0])
    assert notes == [("points/dropped", "2 of 12 points are not finite")]


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("rgb", "<f4", struct.unpack("<f", struct.pack("<I", 0xFF3300))[0]),
        ("rgba", "<u4", 0x80FF3300),
        ("rgb", "<i4", 0xFF3300),
        ("r g b", "u1", (255, 51, 0)),
        ("red green blue", "<u2", (65535, 13107, 0)),
    ],
)
@pytest.mark.parametrize("form", ["ascii", "binary"])
def test_colours(form, name, kind, value):
    names = name.split()
    rows = np.zeros(3, [("xyz", "<f4", 3), *[(n, kind) for n in names]])
    rows["xyz"] = np.eye(3)
    for n, v in zip(names, value if isinstance(value, tuple) else [value], strict=True):
        rows[n] = v
    letter = {"f": "F", "u": "U", "i": "I"}[np.dtype(kind).kind]
    k = len(names)
    head = (
        f"FIELDS x y z {name}\nSIZE 4 4 4{f' {np.dtype(kind).itemsize}' * k}\nTYPE F F F{f' {letter}' * k}\nWIDTH 3\n"
    )
    data = fields(head, rows.tobytes())
    if form == "ascii":
        written = [" ".join(repr(float(row[n])) if letter == "F" else str(row[n]) for n in names) for row in rows]
        lines = [" ".join(map(str, row["xyz"].tolist())) + f" {c}" for row, c in zip(rows, written, strict=True)]
        data = data[: data.index(b"DATA")] + b"DATA ascii\n" + "\n".join(lines).encode()
    points, _ = read_cloud(data, 10, suffix="pcd")
    assert np.allclose(points, np.concatenate([np.eye(3), np.tile([1, 0.2, 0], (3, 1))], 1))


def test_colours_that_are_nan_in_text_are_none():
    head = "VERSION .7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F F\nWIDTH 2\nHEIGHT 1\nDATA ascii\n"
    points, _ = read_cloud((head + "1 2 3 nan\n4 5 6 nan\n").encode(), 10, suffix="pcd")
    assert points.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_old_headers():
    head = "VERSION .5\nCOLUMNS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH 2\nHEIGHT 1\nDATA ascii\n"
    points, _ = read_cloud((head + "1 2 3\r\n4 5 6\n").encode(), 10, suffix="pcd")
    assert points.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ((b"VERSION", b"version"), "unreadable"),
        ((b"FIELDS x y z", b"FIELDS x y w"), "unreadable"),
        ((b"FIELDS x y z rgb", b"FIELDS x y z"), "unreadable"),
        ((b"SIZE 4 4 4", b"SIZE 4 4 3"), "unreadable"),
        ((b"TYPE F F F", b"TYPE F F X"), "unreadable"),
        ((b"COUNT 1 1 1", b"COUNT 1 1 -1"), "unreadable"),
        ((b"WIDTH 200", b"WIDTH many"), "unreadable"),
        ((b"WIDTH 200", b"WIDTH 201"), "corrupt"),
        ((b"WIDTH 200\nHEIGHT 1", b"WIDTH -200\nHEIGHT -1"), "unreadable"),
        ((b"DATA binary", b"DATA zip"), "unreadable"),
    ],
)
def test_headers_that_do_not_hold(change, reason):
    data = pcd("binary")
    assert change[0] in data
    with pytest.raises(BadSample, match=f"points/{reason}"):
        read_cloud(data.replace(*change), 10, suffix="pcd")


def test_data_that_do_not_unpack():
    data = pcd("binary_compressed")
    at = data.index(b"compressed\n") + len(b"compressed\n")
    for size in (0, 3199, 3201, 2**32 - 1):  # another size than the points take
        with pytest.raises(BadSample, match=r"points/corrupt: .* bytes are packed, 200 points take 3200"):
            read_cloud(data[: at + 4] + struct.pack("<I", size) + data[at + 8 :], 10, suffix="pcd")
    with pytest.raises(BadSample, match="points/corrupt: its data do not unpack"):
        read_cloud(data[: at + 8] + b"\xff" * (len(data) - at - 8), 10, suffix="pcd")


def unpacked(data: bytes) -> bytes:
    """LZF byte by byte, as a reader may check it by eye."""
    out, at = bytearray(), 0
    while at < len(data):
        control = data[at]
        at += 1
        if control < 32:
            for _ in range(control + 1):
                out.append(data[at])
                at += 1
            continue
        length = control >> 5
        if length == 7:
            length += data[at]
            at += 1
        back = (control % 32) * 256 + data[at] + 1
        at += 1
        for _ in range(length + 2):
            out.append(out[-back])
    return bytes(out)


def test_lzf_by_a_plain_loop():
    rng = np.random.default_rng(0)
    for _ in range(300):
        packed = literal(bytes(rng.integers(0, 256, 40).tolist()))
        made = 40
        for _ in range(rng.integers(1, 30)):
            length, back = int(rng.integers(3, 265)), int(rng.integers(1, min(made, 8192) + 1))
            short = min(length - 2, 7)
            packed += bytes([short << 5 | (back - 1) >> 8])
            packed += bytes([length - 2 - 7]) if short == 7 else b""
            packed += bytes([(back - 1) & 255])
            made += length
        assert inflate(packed, made) == unpacked(packed)
        for size in (made - 1, made + 1):
            with pytest.raises(ValueError, match="are announced"):
                inflate(packed, size)


def test_a_bomb_stops_at_the_stated_size():
    import tracemalloc

    packed = literal(b"x") + b"\xe0\xff\x00" * 200_000  # 600 kB that stand for 53 MB
    tracemalloc.start()
    with pytest.raises(ValueError, match="1000 are announced"):
        inflate(packed, 1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 16


def test_a_folder_of_scans_and_a_table_of_them(tmp_path):
    (tmp_path / "in" / "chair").mkdir(parents=True)
    for form in FORMS:
        (tmp_path / "in" / "chair" / f"{form}.pcd").write_bytes(pcd(form))
    assert build(tmp_path / "in", tmp_path / "out") == {"train": 3, "left out": 0}
    clouds = [s["points.npy"] for s in Shards(tmp_path / "out" / "*.tar", shuffle=False).samples(0)]
    assert clouds[1] == clouds[2]  # binary and compressed
    (tmp_path / "t.csv").write_text("points,text\nin/chair/ascii.pcd,a chair\n")
    assert build(tmp_path / "t.csv", tmp_path / "table") == {"train": 1, "left out": 0}
