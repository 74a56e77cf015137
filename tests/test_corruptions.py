"""Corruptions of decoded rows, on real files: their values by hand, growing damage, and the same bits every time."""

from __future__ import annotations

import difflib
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch

from align.evaluation.robustness.corruptions import STRENGTHS, corruptions_of, known_corruptions
from align.evaluation.robustness.corruptions.cloud import Redrawn, turn
from align.evaluation.robustness.corruptions.picture import BLUR, JPEG, NOISE, _between
from align.preprocess import Array, Audio, Bytes, Depth, Image, Points, Video
from align.seeds import generator

TEXTS = ("a photograph of two large brown dogs on the beach", "three small birds sing in an old tree", "Über x")


def seeded():
    return generator("test", 0)


def damage(preprocess, name, rows, measure):
    """The measure of (row, corrupted row) at strengths 1 to 5, averaged over the rows."""
    one = corruptions_of(preprocess)[name].apply
    return [sum(measure(x, one(x, s, seeded())) for x in rows) / len(rows) for s in STRENGTHS]


def grows(values):
    return all(a < b for a, b in pairwise(values))


@pytest.fixture(scope="module")
def pictures(real_data):
    folder = real_data("cifar10")
    paths = sorted((folder / "test").rglob("*.jpg"))[::100]
    assert len(paths) >= 8
    return [Image(32).decode(path.read_bytes()) for path in paths]


@pytest.fixture(scope="module")
def sounds(real_data):
    folder = real_data("fsdd")
    return [Audio(8000, 1.0).decode(p.read_bytes()) for p in sorted(folder.rglob("*.wav"))[::300]]


@pytest.fixture(scope="module")
def clouds(real_data):
    folder = real_data("kaykit")
    return [Points(512).decode(path) for path in sorted(folder.rglob("*.obj"))[::50]]


def square(x, y):
    return float((x.double() - y.double()).pow(2).mean())


@pytest.mark.parametrize("name", ["blur", "noise", "jpeg"])
def test_pictures_lose_more_at_each_strength(pictures, name):
    assert grows(damage(Image(32), name, pictures, square)), name
    for x in pictures:
        for s in STRENGTHS:
            y = corruptions_of(Image(32))[name].apply(x, s, seeded())
            assert (y.shape, y.dtype) == (x.shape, x.dtype)
            assert torch.equal(y, corruptions_of(Image(32))[name].apply(x, s, seeded()))


def test_a_crop_keeps_a_part_as_it_stands(pictures):
    for s, side in zip(STRENGTHS, (29, 26, 22, 19, 16), strict=True):
        y = corruptions_of(Image(32))["crop"].apply(pictures[0], s, seeded())
        assert y.shape == (3, side, side)
        places = [(i, j) for i in range(33 - side) for j in range(33 - side)]
        assert any(torch.equal(y, pictures[0][:, i : i + side, j : j + side]) for i, j in places)


def test_values_of_a_picture_are_those_of_the_papers():
    """ImageNet-C's at 224 pixels, CIFAR-10-C's at 32, between them geometric, beyond them constant."""
    for table in (BLUR, NOISE, JPEG):
        for small, large in table:
            assert _between((small, large), 32) == _between((small, large), 20) == small
            assert _between((small, large), 224) == pytest.approx(large)
            assert _between((small, large), 500) == pytest.approx(large)
            middle = round((32 * 224) ** 0.5)  # 84.66: half of the way in logarithms
            assert _between((small, large), middle) == pytest.approx((small * large) ** 0.5, rel=0.01)


@pytest.mark.parametrize(("side", "deviation"), [(32, 0.7), (224, 3), (448, 6), (16, 0.35)])
def test_a_blur_is_scipys(side, deviation):
    from scipy.ndimage import gaussian_filter

    x = torch.rand(2, side, side + 9, generator=seeded())
    got = corruptions_of(Image(32))["blur"].apply(x, 3, seeded()).numpy()
    want = gaussian_filter(x.numpy().astype(np.float64), (0, deviation, deviation), mode="nearest", truncate=4)
    assert np.abs(got - want).max() < 2e-7


def test_noise_of_a_picture_has_its_deviation_and_its_grain():
    grey = torch.full((3, 224, 224), 0.5)
    noise = corruptions_of(Image(32))["noise"].apply
    assert float(noise(grey, 1, seeded()).std()) == pytest.approx(0.08, rel=0.01)
    large = noise(torch.full((1, 448, 896), 0.5), 2, seeded())[0]
    blocks = large.unflatten(0, (224, 2)).unflatten(2, (448, 2))  # (224, 2, 448, 2)
    assert torch.equal(blocks, blocks[:, :1, :, :1].expand_as(blocks))
    assert float(blocks.mean((1, 3)).std()) == pytest.approx(0.12, rel=0.01)


def test_jpeg_is_pillows(pictures):
    from io import BytesIO

    from PIL import Image as Pil

    for s, quality in zip(STRENGTHS, (80, 65, 58, 50, 40), strict=True):
        file = BytesIO()
        Pil.fromarray(pictures[0].permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
        want = torch.from_numpy(np.array(Pil.open(file))).permute(2, 0, 1)
        assert torch.equal(corruptions_of(Image(32))["jpeg"].apply(pictures[0], s, seeded()), want)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
@pytest.mark.parametrize("shape", [(1, 20, 24), (4, 20, 24), (5, 3, 20, 24)])
def test_other_pictures_keep_their_type_and_range(dtype, shape):
    """16 bits, floats, depth, four channels, and the frames of a video."""
    values = torch.rand(shape, generator=seeded())
    top = {torch.uint8: 255, torch.uint16: 65535, torch.float32: 1}[dtype]
    x = values if top == 1 else torch.from_numpy((values * top).round().numpy().astype(f"uint{8 if top < 256 else 16}"))
    for reader in (Depth(20), Video(20)):
        for one in corruptions_of(reader).values():
            for s in (1, 5):
                y = one.apply(x, s, seeded())
                assert y.dtype == dtype
                assert y.shape[:-2] == x.shape[:-2]
                assert 0 <= float(y.double().min()) <= float(y.double().max()) <= top
                assert abs(float(y.double().mean()) - float(x.double().mean())) < 0.15 * top


def test_sounds_lose_more_at_each_strength(sounds):
    for name in ("noise", "clipping", "band"):
        assert grows(damage(Audio(8000, 1.0), name, sounds, square)), name
    length = damage(Audio(8000, 1.0), "speed", sounds, lambda x, y: abs(np.log(len(y) / len(x))))
    assert length == pytest.approx([np.log(f) for f in (1.1, 1.2, 1.3, 1.4, 1.5)], abs=1e-3)


def test_values_of_a_sound(sounds):
    ours = corruptions_of(Audio(8000, 1.0))
    t = torch.arange(8000) / 8000
    tone = sum(0.05 * torch.sin(2 * torch.pi * f * t) for f in (30, 100, 350, 450, 550, 1000, 1700, 2200, 3000, 3800))
    for s, ratio in zip(STRENGTHS, (20, 15, 10, 5, 0), strict=True):
        left = ours["noise"].apply(tone, s, seeded()) - tone
        assert 10 * np.log10(float(tone.pow(2).sum() / left.pow(2).sum())) == pytest.approx(ratio, abs=0.2)
    for s, (low, high) in zip(STRENGTHS, ((50, 7000), (300, 3400), (400, 2500), (500, 2000), (600, 1500)), strict=True):
        heard = np.abs(np.fft.rfft(ours["band"].apply(tone, s, seeded()).numpy())) > 1
        assert np.flatnonzero(heard).tolist() == [
            f for f in (30, 100, 350, 450, 550, 1000, 1700, 2200, 3000, 3800) if low <= f <= high
        ]
    for s, share in zip(STRENGTHS, (0.5, 0.3, 0.2, 0.1, 0.05), strict=True):
        x = sounds[0]
        cut = ours["clipping"].apply(x, s, seeded())
        assert torch.allclose(cut, torch.minimum(x.abs(), share * x.abs().max()) * x.sign(), atol=1e-7)
    fast = [len(ours["speed"].apply(tone, 5, generator("way", i))) for i in range(20)]
    assert set(fast) == {5334, 12000}
    for one in ours.values():
        assert not one.apply(torch.zeros(500), 3, seeded()).any()  # silence stays silent
        assert one.apply(torch.zeros(0), 3, seeded()).shape == (0,)
        assert one.apply(torch.rand(2, 500, generator=seeded()), 3, seeded()).shape[0] == 2


def test_clouds_lose_more_at_each_strength(clouds):
    def spread(x, y):
        return square(x[:, :3], y[:, :3])

    for name in ("jitter", "rotation", "up_axis"):
        assert grows(damage(Points(512), name, clouds, spread)), name
    lost = damage(Points(512), "dropout", clouds, lambda x, y: 1 - len(y) / len(x))
    assert lost == pytest.approx([0.25, 0.375, 0.5, 0.625, 0.75], abs=1e-3)
    for x in clouds:
        for one in corruptions_of(Points(512)).values():
            y = one.apply(x, 4, seeded())
            assert {tuple(row) for row in y[:, 3:].tolist()} <= {
                tuple(row) for row in x[:, 3:].tolist()
            }  # colours stay


def test_values_of_a_cloud(clouds):
    x = clouds[0] * torch.tensor([3.0, 3, 3, 1, 1, 1]) + torch.tensor([5.0, -3, 2, 0, 0, 0])  # of absolute size
    centred, ours = x[:, :3] - x[:, :3].mean(0), corruptions_of(Points(512))
    radius = centred.norm(dim=1).max()
    for s, share in zip(STRENGTHS, (0.01, 0.02, 0.03, 0.04, 0.05), strict=True):
        shift = ours["jitter"].apply(x, s, seeded())[:, :3] - x[:, :3]
        assert float(shift.std() / radius) == pytest.approx(share, rel=0.05)
    for s, angle in zip(STRENGTHS, (2.5, 5, 7.5, 10, 15), strict=True):
        y = ours["rotation"].apply(x, s, seeded())[:, :3]
        assert torch.allclose(y.double().mean(0), x[:, :3].double().mean(0), atol=1e-5)  # it turns about its centroid
        best = torch.linalg.lstsq(centred.double(), (y - y.mean(0)).double()).solution.T
        assert torch.allclose(best @ best.T, torch.eye(3, dtype=torch.float64), atol=1e-5)
        fits = [
            turn(c, 2) @ turn(b, 1) @ turn(a, 0)
            for a in (angle, -angle)
            for b in (angle, -angle)
            for c in (angle, -angle)
        ]
        assert min(float((best - one).abs().max()) for one in fits) < 1e-5
    up = torch.tensor([[0.0, 0, 1], [0, 0, -1]])
    for reader, start, end in (
        (Points(512), 2, 1),
        (Points(512, up="y"), 1, 2),
        (Points(512, preset="openshape"), 2, 1),
    ):
        stick = torch.zeros(2, 3).index_add_(1, torch.tensor([start]), up[:, 2:])
        other = corruptions_of(reader)["up_axis"].apply(stick, 5, seeded())
        assert torch.allclose(other, torch.zeros(2, 3).index_add_(1, torch.tensor([end]), up[:, 2:]), atol=1e-6)
        tilted = corruptions_of(reader)["up_axis"].apply(stick, 1, seeded())
        assert float(tilted[0, start]) == pytest.approx(np.cos(np.pi / 10))


def test_other_draws_are_the_same_points_in_another_order(clouds):
    x = clouds[0]
    drawn = [Points(64).eval(Redrawn(seed)(x, seeded())) for seed in (0, 1, 2)]
    points = {tuple(row) for row in x.tolist()}
    assert all({tuple(row) for row in some.tolist()} <= points for some in drawn)
    assert not any(
        torch.equal(a.sort(0).values, b.sort(0).values) for a, b in ((drawn[0], drawn[1]), (drawn[1], drawn[2]))
    )
    assert torch.equal(Redrawn(1)(x, seeded()), Redrawn(1)(x, seeded()))


def test_typos_grow_and_never_leave_nothing():
    typos = corruptions_of(Bytes())["typos"].apply

    def distance(x, y):
        return 1 - difflib.SequenceMatcher(None, x, y, autojunk=False).ratio()

    rows = [f"{text} {i}" for text in TEXTS for i in range(40)]
    found = []
    for s in STRENGTHS:
        draws = [partial(typos, text, s, generator("typo", i))() for i, text in enumerate(rows)]
        found.append(sum(map(distance, rows, draws)) / len(rows))
    assert grows(found)
    assert 0.02 < found[0] < 0.1
    assert all(typos("a", s, generator("one", i)).strip() for s in STRENGTHS for i in range(50))
    assert typos("", 5, seeded()) == ""
    assert typos("12 34 !?", 5, seeded()) == "12 34 !?"


def test_the_share_of_letters_with_a_typo():
    """Half of the slips of a letter before a digit leave it out, a quarter each double it and hit another key."""
    typos = corruptions_of(Bytes())["typos"].apply
    for s, share in zip(STRENGTHS, (0.05, 0.1, 0.15, 0.2, 0.3), strict=True):
        words = typos("x1" * 6000, s, seeded()).split("1")
        assert sum(word == "" for word in words[:-1]) == pytest.approx(6000 * share / 2, rel=0.15)
        assert sum(word == "xx" for word in words) == pytest.approx(6000 * share / 4, rel=0.15)
        assert sum(word in {*"zcsd"} for word in words) == pytest.approx(6000 * share / 4, rel=0.15)
        assert typos("ab" * 10, s, seeded()) == typos("ab" * 10, s, seeded())


def test_the_medium_chooses():
    assert corruptions_of(Array([8])) == {}
    assert set().union(*(corruptions_of(p) for p in (Image(8), Audio(), Points(), Bytes()))) == set(known_corruptions())
    with pytest.raises(ValueError, match=r"clouds \(P, 3 or 6\), and this preprocess decodes to ndarray"):
        corruptions_of(Points())["jitter"].apply(np.zeros((4, 3)), 1, seeded())
    with pytest.raises(ValueError, match="decodes to int"):
        corruptions_of(Bytes())["typos"].apply(3, 1, seeded())
    with pytest.raises(ValueError, match="not 0"):
        corruptions_of(Image(8))["blur"].apply(torch.zeros(3, 8, 8), 0, seeded())
