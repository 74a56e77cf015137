"""Scenes: their words are true, their boxes hold their masks, and train and test share no solid."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from align.quickstart import write_scenes
from align.quickstart.scene import SIDES, captions, draw_scenes, long_caption, phrases
from align.quickstart.scene_render import boxes, render_scene, scene_points
from align.quickstart.scene_write import scene_members
from align.quickstart.world import is_held_out

SCENES = draw_scenes("train", 40, 3)


def test_scenes_have_two_to_four_solids_of_their_split():
    assert {len(scene.solids) for scene in SCENES} == {2, 3, 4}
    assert not any(is_held_out(solid) for scene in SCENES for solid in scene.solids)
    assert all(is_held_out(solid) for scene in draw_scenes("test", 20) for solid in scene.solids)
    for scene in SCENES:
        assert len({(s.shape, s.color) for s in scene.solids}) == len(scene.solids)
        assert (np.diff(scene.places[:, 0]) > 0).all(), "they stand in their order"


def test_captions_name_every_solid_and_the_long_one_every_parameter():
    for scene in SCENES:
        short, long = captions(scene, train=False)[0], long_caption(scene)
        named = short.replace(" and ", ", ").split(", ")
        assert sorted(name.split(" ", 1)[1] for name in named) == sorted(f"{s.color} {s.shape}" for s in scene.solids)
        assert not any(name.startswith("a o") for name in named)
        sentences = long.split(" . ")[1:]
        for sentence, side, solid in zip(sentences, SIDES[len(scene.solids)], scene.solids, strict=True):
            assert sentence.startswith(side)
            assert all(word in sentence.split() for word in solid.label.values())
        for text, solid in zip(phrases(scene), scene.solids, strict=True):
            assert all(word in text for word in (solid.shape, solid.color, solid.size))


def test_a_mask_has_the_place_of_each_solid_and_its_box_is_tight():
    for scene in SCENES[:6]:
        picture, mask = render_scene(scene)
        assert picture.shape == (64, 64, 3)
        middles = [np.nonzero(mask == k)[1].mean() for k in range(1, len(scene.solids) + 1)]
        assert (np.diff(middles) > 0).all(), "numbered from the left"
        for number, box in enumerate(boxes(mask, len(scene.solids)), 1):
            assert box is not None
            left, top, right, bottom = (round(64 * end) for end in box)
            inside = np.zeros_like(mask, bool)
            inside[top:bottom, left:right] = True
            assert not (mask == number)[~inside].any()
            for edge in (mask[top, left:right], mask[bottom - 1, left:right], mask[top:bottom, left]):
                assert (edge == number).any()


@pytest.mark.parametrize("front", [0, 1])
def test_the_nearer_solid_hides_the_other(front):
    """Whichever of the two is drawn first: the nearer one's mask is that of the scene without the other."""
    places = np.array([[0.0, 0.25], [0.0, 0.25]])
    places[front, 1] = -0.25
    both = SCENES[0]._replace(solids=tuple(s._replace(shape="cube", size="large") for s in SCENES[0].solids[:2]))
    mask = render_scene(both._replace(places=places))[1]
    away = places.copy()
    away[1 - front, 1] = 40  # far behind, where it covers a pixel or none
    alone = render_scene(both._replace(places=away))[1]
    assert ((mask == front + 1) == (alone == front + 1)).mean() > 0.995
    assert (mask == 2 - front).any()


def test_a_solid_that_is_not_seen_has_no_box():
    mask = np.zeros((4, 4), np.uint8)
    mask[1, 2] = 2
    assert boxes(mask, 2) == [None, [0.5, 0.25, 0.75, 0.5]]


def test_points_stand_where_their_solid_stands():
    cloud, numbers = scene_points(SCENES[0], 300)
    assert cloud.shape == (300, 6)
    for number, place in enumerate(SCENES[0].places, 1):
        middle = cloud[numbers == number][:, :2].astype(float).mean(0)
        assert np.abs(middle - place).max() < 0.15


def test_members_are_files_with_a_region_for_each_solid():
    found = scene_members(SCENES[1], train=True)
    about = json.loads(found["json"])
    assert len(found["text.txt"].decode().splitlines()) == 2
    mask = np.asarray(Image.open(io.BytesIO(found["mask.png"])))
    assert [region["mask"] for region in about["regions"]] == list(range(1, len(SCENES[1].solids) + 1))
    assert set(np.unique(mask)) == {0, *(region["mask"] for region in about["regions"])}
    assert set(about["label"]["shape"]) == {region["label"]["shape"] for region in about["regions"]}
    assert len(np.load(io.BytesIO(found["points_mask.npy"]))) == len(np.load(io.BytesIO(found["points.npy"])))


def test_the_same_bytes_again(tmp_path):
    for name in ("a", "b"):
        write_scenes(tmp_path / name, train=3, test=2, seed=1, workers=0, piece=2 if name == "a" else 25)
    assert (tmp_path / "a" / "train-000000.tar").read_bytes() == (tmp_path / "b" / "train-000000.tar").read_bytes()


def test_it_says_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="workers must be 0 or more, got -1"):
        write_scenes(tmp_path, workers=-1)
    with pytest.raises(ValueError, match="must not be negative, got n=-1"):
        draw_scenes("train", -1)
    with pytest.raises(ValueError, match="'train' or 'test'"):
        draw_scenes("val", 1)
