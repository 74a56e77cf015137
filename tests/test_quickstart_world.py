"""The generated world: the same bytes for a seed, train and test apart, faces that are what their parameters say."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from align.quickstart import ATTRIBUTES, TEMPLATES, Solid, draw, write_world
from align.quickstart.cloud import points, surface
from align.quickstart.materials import FINISH, RGB
from align.quickstart.render import picture, render
from align.quickstart.shapes import SOLIDS, normals
from align.quickstart.sound import DAMPING, MODES, RATE, strike
from align.quickstart.world import caption, captions, combinations, is_held_out
from align.quickstart.write import make, members

SAMPLE = draw("train", 84, seed=3)


def said(text: str) -> dict[str, str]:
    """Attribute -> value, of the words of a caption."""
    words = {w.strip(",") for w in text.replace("wooden", "wood").split()}
    return {a: v for a, values in ATTRIBUTES.items() for v in values if v in words}


def test_train_and_test_share_no_parameters():
    train, test = ({s.group for s in combinations(split)} for split in ("train", "test"))
    assert not train & test
    assert len(train | test) == np.prod([len(v) for v in ATTRIBUTES.values()])
    assert 0.12 < len(test) / len(train | test) < 0.21
    assert {s.group for s in draw("test", 500, 1)} <= test
    for split in (train, test):
        for attribute, values in ATTRIBUTES.items():
            assert {said(g)[attribute] for g in split} == set(values)


def test_the_split_of_a_combination_never_moves():
    assert is_held_out(Solid("cube", "metal", "orange", "small")) == is_held_out(
        Solid("cube", "metal", "orange", "small", (9,))
    )
    assert sorted(s.group for s in combinations("test"))[:2] == [
        "large blue ceramic cross",
        "large blue glass cross",
    ]


def test_draw_is_balanced_and_seeded():
    a, b, c = draw("train", 3000, 0), draw("train", 3000, 0), draw("train", 3000, 1)
    assert a == b != c
    assert draw("train", 50, 0) == a[:50], "a smaller world begins like a larger one"
    assert len({s.seed for s in a}) == 3000
    groups = [s.group for s in a]
    assert max(groups.count(g) for g in set(groups)) <= 3  # 1,400 combinations or so
    assert draw("test", 0) == []


@pytest.mark.parametrize(("split", "n"), [("val", 3), ("train", -1)])
def test_draw_says_what_is_wrong(split: str, n: int):
    with pytest.raises(ValueError, match="got"):
        draw(split, n)


def test_every_parameter_has_its_tables():
    assert list(SOLIDS) == list(MODES) == ATTRIBUTES["shape"]
    assert list(FINISH) == list(DAMPING) == ATTRIBUTES["material"]
    assert list(RGB) == ATTRIBUTES["color"]
    assert set(TEMPLATES) == set(ATTRIBUTES)
    assert len(ATTRIBUTES["shape"]) >= 10
    assert len(ATTRIBUTES["material"]) >= 6


def test_full_captions_say_every_parameter_and_nothing_else():
    for solid in SAMPLE:
        (text,) = captions(solid, train=False)
        assert said(text) == solid.label, text
        assert "a o" not in text.replace("an o", "")


def test_partial_captions_leave_something_out_and_say_nothing_false():
    rng = np.random.default_rng(0)
    lengths = []
    for solid in SAMPLE:
        text = caption(solid, rng, partial=True)
        words = said(text)
        assert words.items() < solid.label.items(), text
        lengths.append(len(words))
    assert set(lengths) == {1, 2, 3}


def test_a_third_of_the_train_captions_is_partial():
    lines = [(said(t), s) for s in draw("train", 2000) for t in captions(s, train=True)]
    assert len(lines) == 4000
    assert 0.30 < np.mean([words != s.label for words, s in lines]) < 0.37


def test_a_distance_never_overshoots():
    """|sdf(p) - sdf(q)| <= |p - q|: so the marched rays stop at the surface."""
    rng = np.random.default_rng(0)
    for name, shape in SOLIDS.items():
        p = rng.uniform(-1.3, 1.9, (3, 20_000)).astype(np.float32)
        q = p + rng.normal(0, 0.03, p.shape).astype(np.float32)
        slope = np.abs(shape.distance(*p) - shape.distance(*q)) / np.linalg.norm(p - q, axis=0)
        limit = 1.001 if name != "spring" else 1.2  # measured at right angles to the wire, where it bends a little more
        assert np.quantile(slope, 0.999) < limit, name


def test_solids_rest_on_the_ground_inside_their_ball():
    for name, shape in SOLIDS.items():
        p, n = surface(name)
        assert np.abs(shape.distance(*p)).max() < 0.005, name
        assert -0.01 < p[2].min() < 0.05, name  # few samples lie at the tip of the octahedron
        assert np.sqrt(p[0] ** 2 + p[1] ** 2 + (p[2] - shape.middle) ** 2).max() < shape.radius + 0.005, name
        np.testing.assert_allclose(np.linalg.norm(n, axis=0), 1, atol=1e-4)


def test_surface_samples_are_even():
    p, _ = surface("cube")
    top = (p[2] > 1.39).mean()
    assert 0.13 < top < 0.20  # one face of six
    assert np.abs(p.mean(1) - [0, 0, 0.7]).max() < 0.03


def test_normals_of_a_sphere_point_outwards():
    p, _ = surface("sphere")
    middle = np.array([[0], [0], [0.85]])
    np.testing.assert_allclose(normals(SOLIDS["sphere"].distance, p), (p - middle) / 0.85, atol=0.02)


@pytest.mark.parametrize("size", [64, 70, 128])
def test_picture(size: int):
    image = Image.open(io.BytesIO(picture(SAMPLE[0], size)))
    assert image.format == "PNG"
    assert image.size == (size, size)
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), render(SAMPLE[0], size))


def test_size_and_color_show_in_every_face():
    red = {s: Solid("sphere", "plastic", "red", s, (5,)) for s in ATTRIBUTES["size"]}
    covered, extent, pitch = [], [], []
    for solid in red.values():
        image = render(solid).astype(int)
        covered.append(((image[..., 0] - image[..., 1]) > 60).mean())
        cloud = points(solid).astype(np.float32)
        extent.append(np.ptp(cloud[:, 2]))
        assert cloud[:, 3].mean() > 2 * cloud[:, 4].mean()
        pitch.append(np.abs(np.fft.rfft(strike(solid))).argmax())
    assert covered[0] * 1.3 < covered[1] < covered[2] / 1.3
    assert extent[0] * 1.12 < extent[1] < extent[2] / 1.12
    assert pitch[0] > pitch[1] > pitch[2]


def test_every_shape_and_material_is_seen():
    for shape in ATTRIBUTES["shape"]:
        images = {m: render(Solid(shape, m, "green", "large", (1,))).astype(float) for m in ATTRIBUTES["material"]}
        for a in images:
            for b in images:
                if a < b:
                    assert np.abs(images[a] - images[b]).mean() > 0.8, (shape, a, b)


def test_points():
    for solid in SAMPLE[:24]:
        cloud = points(solid)
        assert cloud.dtype == np.float16
        assert cloud.shape == (1024, 6)
        assert np.isfinite(cloud).all()
        assert cloud[:, 3:].min() >= 0
        assert cloud[:, 3:].max() <= 1
        assert -0.05 < cloud[:, 2].min() < 0.08, "upright on the ground"
    assert points(SAMPLE[0], 512).shape == (512, 6)


def test_sounds_are_finite_and_do_not_clip():
    for solid in SAMPLE:
        wave = strike(solid)
        assert wave.dtype == np.float32
        assert wave.shape == (12_000,)
        assert np.isfinite(wave).all()
        assert 0.45 < np.abs(wave).max() < 0.91
        assert abs(wave[-1]) < 1e-3


def test_materials_ring_differently():
    def ring(material: str) -> float:
        wave = strike(Solid("cube", material, "red", "medium", (2,))) ** 2
        left = np.cumsum(wave[::-1])[::-1]
        return float((left > 1e-3 * left[0]).sum() / RATE)

    seconds = {m: ring(m) for m in ATTRIBUTES["material"]}
    assert seconds["metal"] > seconds["glass"] > seconds["ceramic"] > seconds["wood"] > seconds["stone"]
    assert seconds["metal"] > 5 * seconds["wood"]


def test_partials_are_where_the_shape_puts_them():
    solid = Solid("tube", "metal", "red", "medium", (4,))
    spectrum = np.abs(np.fft.rfft(strike(solid)))
    hertz = np.fft.rfftfreq(12_000, 1 / RATE)
    base = hertz[spectrum.argmax()]
    assert 270 < base < 400  # 240 Hz x (1 / 0.75)^1.2, give or take
    for ratio in (1, 2, 3):
        near = np.abs(hertz - ratio * base) < 0.06 * ratio * base
        assert spectrum[near].max() > 20 * np.median(spectrum), ratio


def test_members_are_real_files():
    files = members(SAMPLE[1], train=True)
    assert set(files) == {"image.png", "points.npy", "audio.flac", "text.txt", "json"}
    wave, rate = soundfile.read(io.BytesIO(files["audio.flac"]))
    assert rate == RATE
    assert wave.shape == (12_000,)
    assert np.load(io.BytesIO(files["points.npy"]), allow_pickle=False).shape == (1024, 6)
    about = json.loads(files["json"])
    assert about["label"] == SAMPLE[1].label
    assert said(about["group"]) == SAMPLE[1].label


def test_an_object_depends_on_its_own_seed_only():
    assert list(make(SAMPLE[4:6], train=True)) == list(make(SAMPLE[:6], train=True))[4:]
    same, other = SAMPLE[0], SAMPLE[0]._replace(seed=(3, 0, 77))
    assert picture(same) == picture(SAMPLE[0]) != picture(other)


@pytest.mark.slow
def test_the_same_bytes_for_any_number_of_workers(tmp_path: Path):
    seen: list[tuple[int, int]] = []
    write_world(tmp_path / "one", train=60, test=12, workers=1, progress=lambda n, of: seen.append((n, of)))
    write_world(tmp_path / "two", train=60, test=12, workers=2)
    write_world(tmp_path / "other", train=60, test=12, seed=1, workers=0)
    names = sorted(p.name for p in (tmp_path / "one").glob("*.tar"))
    assert names == ["test-000000.tar", "train-000000.tar"]
    assert seen[-1] == (72, 72)
    assert len(seen) == 72
    for name in [*names, "manifest.json"]:
        one, two, other = ((tmp_path / d / name).read_bytes() for d in ("one", "two", "other"))
        assert one == two
        assert one != other
    manifest = json.loads((tmp_path / "one" / "manifest.json").read_text())
    assert manifest["classes"] == ATTRIBUTES
    with tarfile.open(tmp_path / "one" / "test-000000.tar") as tar:
        assert len({m.name.split(".")[0] for m in tar}) == 12


def test_write_world_says_what_is_wrong(tmp_path: Path):
    with pytest.raises(ValueError, match="workers must be 0 or more, got -1"):
        write_world(tmp_path, train=1, test=1, workers=-1)
