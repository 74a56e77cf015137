"""Points: every odd cloud becomes P finite points or a named reason; augmentation turns about the stated axis."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
import torch

from align.media.npy import read_npy
from align.preprocess import Points
from align.preprocess.points import spread, turn
from align.values import BadSample


def npy(array: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def cloud(points: int = 500, channels: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((points, channels)).astype(np.float32)


def header(shape: str) -> bytes:
    """A .npy of float32 whose header says ``shape``, with 48 bytes of data."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(48)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"", "points/empty"),
        (b"<html></html>", "points/not-npy"),
        (npy(cloud())[:40], "points/not-npy"),
        (npy(cloud())[:-1], "points/truncated"),
        (header("(4, 3)")[:-1], "points/truncated"),
        (header("(10000, 3)"), "points/truncated"),
        (header("(99999999999, 3)"), "points/too-large"),
        (header("(-4, 3)"), "points/not-npy"),
        (header("(4, 3"), "points/not-npy"),
        (header("(True, 3)"), "points/not-npy"),
        (header("(2 ** 3, 3)"), "points/not-npy"),
        (header("(9223372036854775808, 0)"), "points/not-npy"),
        (header(f"({'1, ' * 70})"), "points/not-npy"),
        (npy(np.array([[None, {}, 1]]), allow_pickle=True), "points/dtype"),
        (npy(np.zeros((3, 3), "U2")), "points/dtype"),
        (npy(np.zeros((3, 3), complex)), "points/dtype"),
        (np.zeros((3, 3), bool), "points/dtype"),
        (npy(cloud(0)), "points/empty"),
        (npy(cloud(5, 4)), "points/shape"),
        (npy(cloud(5)[0]), "points/shape"),
        (npy(cloud(5)[None]), "points/shape"),
        (np.full((5, 3), np.nan), "points/non-finite"),
        (np.full((5, 3), -np.inf), "points/non-finite"),
        (np.concatenate([cloud(5, 3), np.full((5, 3), np.nan)], 1), "points/non-finite"),
        (np.full((5, 3), 1e30), "points/range"),
        (np.full((5, 3), 1.1e6), "points/range"),
        (np.concatenate([cloud(5, 3), np.full((5, 3), 255.0)], 1), "points/colour"),
    ],
)
def test_reasons(source, reason):
    with pytest.raises(BadSample) as caught:
        Points().decode(source)
    assert caught.value.reason == reason


def test_headers_are_read_as_numpy_reads_them():
    stored = cloud(7)
    for array in (stored, np.asfortranarray(stored), stored.astype(">f4"), stored.astype(np.int16), cloud(8)):
        for version in ((1, 0), (2, 0)):
            file = io.BytesIO()
            np.lib.format.write_array(file, array, version=version)
            for _ in range(2):  # the second time its header is known
                found = read_npy(io.BytesIO(file.getvalue()), "points", limit=100)
                assert found.dtype == array.dtype
                assert np.array_equal(found, array)


def test_a_pickle_in_a_npy_is_never_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path / "sprung").touch, ()

    with pytest.raises(BadSample, match="points/dtype"):
        Points().decode(npy(np.array([[Trap()] * 3], dtype=object), allow_pickle=True))
    assert not (tmp_path / "sprung").exists()


def test_sources_agree(tmp_path):
    points = Points(preset="absolute")
    stored = cloud()
    np.save(tmp_path / "a.npy", np.asfortranarray(stored))
    for source in (npy(stored), npy(stored.astype(">f8")), tmp_path / "a.npy", str(tmp_path / "a.npy"), stored):
        assert torch.equal(points.decode(source), torch.from_numpy(stored))
    assert torch.equal(points.decode(torch.from_numpy(stored)), torch.from_numpy(stored))
    half = points.decode(npy(stored.astype(np.float16)))
    assert half.dtype == torch.float32
    assert torch.allclose(half, torch.from_numpy(stored), atol=1e-3)
    with pytest.raises(FileNotFoundError, match=r"no such file: .*b\.npy"):
        points.decode(tmp_path / "b.npy")
    with pytest.raises(FileNotFoundError, match=r"no such file: .*b\.ply"):
        points.decode(tmp_path / "b.ply")
    with pytest.raises(TypeError, match="not from list"):
        points.decode([[0, 0, 0]])
    (tmp_path / "c.npy").write_bytes(b"nothing")
    with pytest.raises(BadSample, match=r"points/not-npy: .*c\.npy"):
        points.decode(tmp_path / "c.npy")


def test_decode_does_not_touch_its_source():
    stored = cloud()
    before = stored.copy()
    Points().decode(stored).zero_()
    assert np.array_equal(stored, before)


def test_unit_sphere():
    x = Points().decode(np.concatenate([cloud(500, 3) * 50 + 7, cloud(500, 3)], 1))
    assert torch.allclose(x[:, :3].mean(0), torch.zeros(3), atol=1e-5)
    assert x[:, :3].norm(dim=1).max().item() == pytest.approx(1, abs=1e-6)
    shifted = Points(color=False).decode(cloud(500, 3) * 3 + 5)
    assert torch.allclose(shifted, Points(color=False).decode(cloud(500, 3)), atol=1e-5)


@pytest.mark.parametrize("at", [0.0, 1.0, 0.1, -999_999.9, 1e-20])
def test_identical_points_are_zeros(at):
    for count in (1, 3, 5000):
        points = Points(64)
        x = points.decode(np.full((count, 3), at, np.float32))
        assert (x[:, :3] == 0).all()
        for row in (points.eval(x), points.train(x, torch.Generator().manual_seed(0))):
            assert row.shape == (64, 6)
            assert row.isfinite().all()


@pytest.mark.parametrize("shift", [0.0, 7.0, 9e5])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_unit_sphere_by_a_plain_loop(shift, dtype):
    stored = (cloud(60) + np.array([shift if dtype != np.float16 else 0] * 3 + [0] * 3)).astype(dtype)
    found = Points().decode(stored)
    xyz = [[float(x) for x in row[:3]] for row in stored]
    middle = [sum(row[k] for row in xyz) / len(xyz) for k in range(3)]
    radius = max(sum((row[k] - middle[k]) ** 2 for k in range(3)) ** 0.5 for row in xyz)
    for i, row in enumerate(xyz):
        expected = [(row[k] - middle[k]) / radius for k in range(3)]
        assert found[i, :3].tolist() == pytest.approx(expected, abs=1e-6)
        assert found[i, 3:].tolist() == pytest.approx([float(x) for x in stored[i, 3:]], abs=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_each_column_is_checked(dtype):
    for channel in range(6):
        for value in (np.nan, np.inf, -np.inf):
            stored = cloud(50).astype(dtype)
            stored[31, channel] = value
            with pytest.raises(BadSample, match="points/non-finite"):
                Points().decode(stored)
        for value in (-2e6, 2e6) if dtype != np.float16 else ():
            stored = cloud(50).astype(dtype)
            stored[31, channel] = value
            with pytest.raises(BadSample, match="points/range" if channel < 3 else "points/colour"):
                Points().decode(stored)
        if channel >= 3:
            stored[31] = 0.5
            stored[31, channel], stored[30, channel] = -0.009, 1.009  # rounding of colours: clipped
            assert Points().decode(stored)[[31, 30], channel].tolist() == [0, 1]


def test_a_tiny_cloud_far_away_stays_finite():
    x = Points().decode(np.array([[1e6, 0, 0], [1e6 - 0.1, 0, 0]]))
    assert x.isfinite().all()
    assert x[:, :3].norm(dim=1).max() <= 1 + 1e-6
    small = Points().decode(cloud(50, 3) * 1e-9)
    assert small[:, :3].norm(dim=1).max().item() == pytest.approx(1, abs=1e-3)


def test_absolute_keeps_place_and_size():
    stored = cloud()
    assert torch.equal(Points(preset="absolute").decode(stored), torch.from_numpy(stored))
    doubled = Points(preset="absolute", scale=2.0).decode(stored)
    assert torch.allclose(doubled[:, :3], 2 * torch.from_numpy(stored[:, :3]))
    assert torch.equal(doubled[:, 3:], torch.from_numpy(stored[:, 3:]))


def test_colour():
    bare, coloured = cloud(50, 3), cloud(50)
    assert (Points().decode(bare)[:, 3:] == torch.tensor(0.4)).all()
    assert Points(color=False).decode(coloured).shape == (50, 3)
    assert torch.equal(Points().decode(coloured)[:, 3:], torch.from_numpy(coloured[:, 3:]))
    assert Points(color=False).decode(np.concatenate([bare, bare * 999], 1)).shape == (50, 3)


@pytest.mark.parametrize("count", [1, 3, 63, 64, 65, 128, 1000])
def test_resampling(count):
    points = Points(64, preset="absolute", jitter=0)
    x = points.decode(cloud(count))
    known = {tuple(p) for p in x.tolist()}
    for row in (points.eval(x), points.train(x, torch.Generator().manual_seed(0))):
        assert row.shape == (64, 6)
        seen = [tuple(p) for p in row.tolist()]
        assert set(seen) <= known
        times = [seen.count(p) for p in set(seen)]
        assert len(times) == min(count, 64)  # no point is left out while another comes twice
        assert max(times) - min(times) <= 1


def test_spread_is_even_and_fixed():
    for total, count in ((1000, 100), (4096, 64), (10_000, 1024)):
        chosen = spread(total, count)
        assert torch.equal(chosen, spread(total, count))
        gaps = torch.cat([chosen.sort().values, torch.tensor([total])]).diff()
        assert chosen.unique().numel() == count
        assert gaps.max() <= 2.7 * total / count
    grid = torch.stack(torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij"), -1).reshape(-1, 2)
    chosen = grid[spread(4096, 512)]
    for axis in (0, 1):  # no row and no column of the scan is preferred
        assert torch.bincount(chosen[:, axis], minlength=64).float().std() < 3


def test_training_follows_its_generator():
    points = Points(64, rotate="up", jitter=0.02, scale_jitter=0.2, drop=0.5)
    x = points.decode(cloud())
    torch.manual_seed(1)
    first = [points.train(x, torch.Generator().manual_seed(seed)) for seed in range(10)]
    torch.manual_seed(2)
    again = [points.train(x, torch.Generator().manual_seed(seed)) for seed in range(10)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({row.numpy().tobytes() for row in first}) == 10
    assert torch.equal(points.eval(x), points.eval(x))
    dropped = [bool((row[:, 3:] == torch.tensor(0.4)).all()) for row in first]
    assert 1 <= sum(dropped) <= 9
    assert torch.equal(x, points.decode(cloud()))  # the augmentation works on a copy


@pytest.mark.parametrize(("up", "axis"), [("z", 2), ("y", 1)])
def test_rotation_about_the_up_axis(up, axis):
    points = Points(500, preset="absolute", rotate="up", up=up, jitter=0)
    x = points.decode(cloud())
    plain = Points(500, preset="absolute", jitter=0)
    for seed in range(5):
        turned = points.train(x, torch.Generator().manual_seed(seed))
        still = plain.train(x, torch.Generator().manual_seed(seed))  # the same draw of points
        assert torch.allclose(turned[:, axis], still[:, axis], atol=1e-6)
        assert torch.allclose(turned[:, :3].norm(dim=1), still[:, :3].norm(dim=1), atol=1e-5)
        assert not torch.allclose(turned[:, :3], still[:, :3], atol=1e-2)
        assert torch.equal(turned[:, 3:], still[:, 3:])


@pytest.mark.parametrize(("kind", "up"), [("none", "z"), ("up", "z"), ("up", "y"), ("any", "z")])
def test_turns_are_rotations(kind, up):
    generator = torch.Generator().manual_seed(0)
    turns = torch.stack([turn(kind, up, generator) for _ in range(2000)]).double()
    assert torch.allclose(turns @ turns.transpose(1, 2), torch.eye(3, dtype=torch.float64).expand_as(turns), atol=1e-6)
    assert torch.allclose(torch.linalg.det(turns), torch.ones(2000, dtype=torch.float64), atol=1e-6)
    if kind == "any":
        assert turns.mean(0).abs().max() < 0.05  # uniform: every axis goes everywhere


def test_jitter_is_a_share_of_the_radius_and_scale_jitter_a_factor():
    x = torch.from_numpy(cloud())
    for size in (1.0, 100.0):
        big = torch.cat([x[:, :3] * size, x[:, 3:]], 1)
        plain = Points(500, preset="absolute", jitter=0).train(big, torch.Generator().manual_seed(3))
        moved = Points(500, preset="absolute", jitter=0.05).train(big, torch.Generator().manual_seed(3))
        radius = (plain[:, :3] - plain[:, :3].mean(0)).norm(dim=1).max()
        assert ((moved - plain)[:, :3].std() / radius).item() == pytest.approx(0.05, rel=0.1)
    factors = []
    for seed in range(50):
        plain = Points(500, preset="absolute", jitter=0).train(x, torch.Generator().manual_seed(seed))
        scaled = Points(500, preset="absolute", jitter=0, scale_jitter=0.25).train(
            x, torch.Generator().manual_seed(seed)
        )
        factors.append((scaled[:, :3] / plain[:, :3]).mean().item())
    assert 0.8 - 1e-5 <= min(factors) < 0.85
    assert 1.2 < max(factors) <= 1.25 + 1e-5


def test_collate_and_nothing():
    for color, channels in ((True, 6), (False, 3)):
        points = Points(32, color=color)
        rows = [points.eval(points.decode(cloud(n))) for n in (5, 32, 100)]
        values = points.collate(rows)
        assert values.shape == (3, 32, channels)
        assert values.dtype == torch.float32
        assert torch.equal(points.device(values, torch.Generator()), values)
        assert points.collate([]).shape == (0, 32, channels)
        assert points.collate([]).dtype == torch.float32
        assert points.channels == channels


def test_pickle():
    points = Points(32, preset="absolute", rotate="any", drop=0.1, scale=0.5)
    copy = pickle.loads(pickle.dumps(points))
    assert repr(copy) == repr(points)
    x = points.decode(cloud())
    assert torch.equal(copy.eval(copy.decode(cloud())), points.eval(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"points": 0}, "points=0 is too small"),
        ({"preset": "unit"}, "preset='unit' is not known; it may be 'unit_sphere', 'absolute'"),
        ({"up": "x"}, "up='x' is not known; it may be 'z', 'y'"),
        ({"rotate": True}, "rotate=True is not known"),
        ({"jitter": -1.0}, "jitter=-1.0 is too small"),
        ({"scale": 2.0}, "scale=2.0 means nothing with preset='unit_sphere'"),
    ],
)
def test_arguments_are_refused_at_the_door(arguments, message):
    with pytest.raises(ValueError, match=message):
        Points(**arguments)
