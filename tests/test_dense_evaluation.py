"""Dense evaluation against plain loops: classes by place, pointing, masks and boxes, and samples that lack some."""

import io
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image as Pictures
from tiny_space import Letters
from torch import nn

import align
from align.data import ShardWriter
from align.evaluation import Dense
from align.evaluation.region_masks import read_regions
from align.evaluation.space import Space
from align.heads import Identity
from align.metrics.overlap import class_overlaps, guessed_iou, mean_iou
from align.model import JointModel, Tower
from align.page.section import Bars
from align.page.section import Pictures as Shown
from align.preprocess import Bytes, Image, Points
from align.values import Features

NAMES = ("bbb", "ccc", "ddd")  # axes 0, 1 and 2 of the space: red, green and blue


class Cells(nn.Module):
    """Pictures of 8 pixels as 4 x 4 cells: the mean red, green and blue of each."""

    prefix = 0

    def __init__(self, width=8):
        super().__init__()
        self.width, self.gain = width, nn.Parameter(torch.ones(1))

    def grid_of(self, values):
        return (4, 4)

    def forward(self, values):
        cells = nn.functional.avg_pool2d(values, 2).flatten(2).mT * self.gain  # (n, 16, 3)
        tokens = nn.functional.pad(cells, (0, self.width - 3))
        return Features(tokens.mean(1), tokens)


class Places(nn.Module):
    """Clouds whose points are told by their colour."""

    def __init__(self, width=8):
        super().__init__()
        self.width, self.gain = width, nn.Parameter(torch.ones(1))

    def at_points(self, values, tokens):
        return nn.functional.pad(values[..., 3:], (0, self.width - 3)) * self.gain

    def forward(self, values):
        return Features(self.at_points(values, None).mean(1))


def model(**towers):
    towers = {
        "image": Tower(Image(8, mean=[0.0] * 3, std=[1.0] * 3), Cells(), Identity),
        "points": Tower(Points(6, preset="absolute"), Places(), Identity),
        "text": Tower(Bytes(16), Letters(), Identity),
        **towers,
    }
    return JointModel(towers, 8)


def png(x):
    out = io.BytesIO()
    Pictures.fromarray(x).save(out, "PNG")
    return out.getvalue()


def npy(x):
    out = io.BytesIO()
    np.save(out, x)
    return out.getvalue()


def scene(seed, lie=0.0):
    """Return the arrays of a sample: picture, mask, cloud, its mask, and the regions. Some cells have another hue."""
    draw = np.random.default_rng(seed)
    picture, mask, regions = np.full((8, 8, 3), 40, np.uint8), np.zeros((8, 8), np.uint8), []
    picture += draw.integers(0, 30, picture.shape, dtype=np.uint8)
    cloud, numbers = draw.random((9, 6), dtype=np.float32), draw.integers(0, 3, 9)
    for number, (top, left) in enumerate([(0, 0), (4, 2)], 1):
        hue = int(draw.integers(3))
        mask[top : top + 4, left : left + 4] = number
        for y in range(top, top + 4, 2):
            for x in range(left, left + 4, 2):
                shown = int(draw.integers(3)) if draw.random() < lie else hue
                picture[y : y + 2, x : x + 2, shown] = 200 + int(draw.integers(50))
        box = [left / 8, top / 8, (left + 4) / 8, (top + 4) / 8]
        regions.append({"box": box, "text": NAMES[hue], "mask": number, "label": {"hue": NAMES[hue]}})
    return picture, mask, cloud, numbers, regions


def write(folder, scenes, **change):
    with ShardWriter(folder, "test", classes={"hue": list(NAMES)}) as writer:
        for i, (picture, mask, cloud, numbers, regions) in enumerate(scenes):
            members = {
                "image.png": png(picture),
                "mask.png": png(mask),
                "points.npy": npy(cloud),
                "points_mask.npy": npy(numbers),
                "text.txt": b"bbb ccc",
                "json": json.dumps({"label": {"hue": ["bbb"]}, "regions": regions}).encode(),
            }
            members |= change.get(f"at_{i}", {})
            writer.write(f"{i}", {k: v for k, v in members.items() if v is not None})
    return align.Shards(f"{folder}/test-*.tar", shuffle=False)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write(tmp_path_factory.mktemp("dense"), [scene(i, 0.4) for i in range(5)])


def cosine(a, b):
    return float(a @ b / max(float(a.norm() * b.norm()), 1e-9))


def bilinear(cells, y, x):
    """The value at pixel (y, x) of 8 of a map of 4 x 4 cells."""
    places = []
    for at in (y, x):
        real = min(max((at + 0.5) / 2 - 0.5, 0.0), 3.0)
        low = min(int(real), 2)
        places.append(((low, 1 - (real - low)), (low + 1, real - low)))
    return sum(wy * wx * cells[j][i] for j, wy in places[0] for i, wx in places[1])


def loop(prompts):
    """Recompute the scores of pictures place by place."""
    inside, union = [0] * 3, [0] * 3
    right = places = hits = asked = 0.0
    for seed in range(5):
        picture, mask, _, _, regions = scene(seed, 0.4)
        small = torch.tensor(picture).double().view(4, 2, 4, 2, 3).mean((1, 3)) / 255
        maps = [[[cosine(torch.nn.functional.pad(c, (0, 5)), p) for c in row] for row in small] for p in prompts]
        large = [[[bilinear(m, y, x) for x in range(8)] for y in range(8)] for m in maps]
        for y in range(8):
            for x in range(8):
                number = int(mask[y, x])
                if number:
                    truth = NAMES.index(regions[number - 1]["label"]["hue"])
                    answer = max(range(3), key=lambda c, y=y, x=x, large=large: large[c][y][x])
                    places += 1
                    right += truth == answer
                    inside[truth] += truth == answer
                    for c in {truth, answer}:
                        union[c] += 1
        for region in regions:
            one = large[NAMES.index(region["text"])]
            highest = max(max(row) for row in one)
            best = [(y, x) for y in range(8) for x in range(8) if one[y][x] > highest - 1e-9]
            hits += sum(mask[y, x] == region["mask"] for y, x in best) / len(best)
            asked += 1
    return sum(i / u for i, u in zip(inside, union, strict=True) if u) / 3, right / places, hits / asked


def test_scores_of_pictures_are_those_of_a_loop(shards):
    one = model().double()
    results = align.evaluate(one, shards, with_=["dense"], draws=50)
    prompts = one.embed(text=list(NAMES))["text"]
    miou, accuracy, pointing = loop(prompts)
    assert results.scores["dense/image/hue/miou"] == pytest.approx(miou, abs=1e-6)
    assert results.scores["dense/image/hue/accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert results.scores["dense/image/pointing/accuracy"] == pytest.approx(pointing, abs=1e-6)
    assert 0.3 < miou < accuracy < 1
    assert results.scores["dense/image/pointing/chance"] == pytest.approx(16 / 64)
    low, high = results.intervals["dense/image/hue/miou"]
    assert low < miou < high
    assert results.protocol["dense"]["attention"] == "plain"
    (section,) = results.sections
    assert [type(block) for block in section.blocks] == [Bars, Bars, Shown]
    assert len(section.blocks[-1].pictures) == 5


def test_scores_of_clouds_are_those_of_a_loop(shards):
    one = model().double()
    results = align.evaluate(one, shards, with_=[Dense(masks={"points": "points_mask.npy"})], draws=0)
    prompts, order = one.embed(text=list(NAMES))["text"], one.towers["points"].preprocess.order(9).tolist()
    inside, union, hits, chance = [0] * 3, [0] * 3, [], []
    for seed in range(5):
        _, _, cloud, numbers, regions = scene(seed, 0.4)
        for p in order:
            answer = max(range(3), key=lambda c, p=p, cloud=cloud: cloud[p, 3 + c])
            if numbers[p]:
                truth = NAMES.index(regions[numbers[p] - 1]["label"]["hue"])
                inside[truth] += truth == answer
                for c in {truth, answer}:
                    union[c] += 1
        for region in regions:
            if any(numbers[p] == region["mask"] for p in order):
                of = torch.tensor(cloud[order, 3:]).double()
                best = max(range(6), key=lambda i: cosine(of[i], prompts[NAMES.index(region["text"])][:3]))
                hits.append(numbers[order[best]] == region["mask"])
                chance.append(np.mean(numbers[order] == region["mask"]))
    assert results.scores["dense/points/hue/miou"] == pytest.approx(sum(map(lambda i, u: i / u, inside, union)) / 3)
    assert results.scores["dense/points/pointing/accuracy"] == pytest.approx(np.mean(hits))
    assert results.scores["dense/points/pointing/chance"] == pytest.approx(np.mean(chance))
    assert not [name for name in results.scores if "image" in name]


def test_what_is_missing_or_bad_is_left_out_and_counted(tmp_path):
    good, odd = scene(0, 0.4), [scene(i, 0.4) for i in range(1, 6)]
    odd[0][4][:] = [7, {"text": "bbb"}, {"box": [0, 0, 2, 1], "text": "bbb"}, {"box": [0.5, 0, 0.5, 1]}, {"mask": 9}]
    change = {
        "at_1": {},
        "at_2": {"mask.png": b"no picture", "points_mask.npy": None},
        "at_3": {"image.png": None, "points.npy": None},
        "at_4": {"json": b'{"label": {"hue": ["bbb"]}}'},
        "at_5": {"mask.png": png(np.zeros((4, 4), np.uint8)), "points_mask.npy": npy(np.zeros(5, np.int64))},
    }
    shards = write(tmp_path, [good, *odd], **change)
    results = align.evaluate(model(), shards, with_=["dense"], draws=0)
    alone = write(tmp_path / "alone", [good])
    want = align.evaluate(model(), alone, with_=["dense"], draws=0)
    assert results.scores["dense/image/hue/miou"] == want.scores["dense/image/hue/miou"]
    of_boxes = 2 + 2 + 2  # phrases of samples 0, 2 and 5, the last two by their boxes
    assert len(results.samples["dense/image/pointing/accuracy"][0]) == of_boxes
    assert results.protocol["dense"]["regions left out"]["image"] == 5
    assert results.protocol["dense"]["regions left out"]["points"] == 5 + 2 + 2


def test_a_mask_goes_the_way_of_its_picture():
    picture, mask, _, _, regions = scene(0)
    wide = np.concatenate([np.zeros((8, 4, 3), np.uint8), picture, np.zeros((8, 4, 3), np.uint8)], 1)
    wide_mask = np.pad(mask, ((0, 0), (4, 4)))
    boxes = [{**r, "box": [(4 + 8 * x) / 16 if i % 2 == 0 else x for i, x in enumerate(r["box"])]} for r in regions]
    for one, sides in ((Image(8), (8, 8)), (Image(16, resize="squash"), (16, 16)), (Image(16, resize="pad"), (16, 16))):
        for listed in (boxes, [{k: v for k, v in r.items() if k != "mask"} for r in boxes]):
            sample = {
                "image.png": png(wide),
                "mask.png": png(wide_mask),
                "json": json.dumps({"regions": listed}).encode(),
            }
            found = read_regions(sample, "image", one, "mask.png", {})
            assert len(found.regions) == 2
            for region, number in zip(found.regions, (1, 2), strict=True):
                assert region.mask.shape == sides
                pixels = found.row.numpy()  # (3, h, w)
                if one.resize == "crop":
                    assert torch.equal(region.mask, torch.tensor(mask == number))
                elif one.resize == "pad":
                    assert torch.equal(region.mask[4:12], torch.tensor(wide_mask == number))
                    assert not region.mask[:4].any()
                else:
                    tall = np.repeat(wide_mask == number, 2, 0)
                    assert torch.equal(region.mask, torch.tensor(tall))
                assert pixels[:, region.mask.numpy()].max(0).min() > 150  # the region is where the pixels are


def test_overlaps_and_their_mean():
    torch.manual_seed(0)
    answer, truth = torch.randint(-1, 4, (3, 30)), torch.randint(-1, 4, (3, 30))
    truth[truth == 2] = 1  # a class that is answered and never there
    each = torch.stack([class_overlaps(a, t, 5) for a, t in zip(answer, truth, strict=True)])
    got = float(mean_iou(each, torch.tensor([[1.0, 0.0, 2.0]], dtype=torch.float64)))
    ious = []
    for c in range(5):
        inside = union = 0
        for row, weight in ((0, 1), (2, 2)):
            for a, t in zip(answer[row].tolist(), truth[row].tolist(), strict=True):
                if t >= 0:
                    inside += weight * (a == t == c)
                    union += weight * (c in (a, t))
        if union:
            ious.append(inside / union)
    assert len(ious) == 4
    assert got == pytest.approx(sum(ious) / 4)
    assert guessed_iou(torch.tensor([3, 1])) == pytest.approx((0.375 / 0.875 + 0.125 / 0.625) / 2)


def test_a_tie_is_no_answer_and_points_nowhere_in_particular(tmp_path):
    one = model()
    with torch.no_grad():
        one.towers["image"].encoder.gain.zero_()  # every place is zero, so all classes tie
    *arrays, regions = scene(0)
    for region in regions:
        region["label"] = {"hue": "bbb"}  # the first class, which an argmax would take
    shards = write(tmp_path, [(*arrays, regions)])
    results = align.evaluate(one, shards, with_=[Dense(masks={"image": "mask.png"})], draws=0)
    assert results.scores["dense/image/hue/miou"] == 0
    assert results.scores["dense/image/pointing/accuracy"] == pytest.approx(16 / 64)


def test_nothing_to_measure_says_why(shards, tmp_path):
    alone = JointModel({"text": Tower(Bytes(16), Letters(), Identity)}, 8)
    with pytest.raises(ValueError, match="dense maps are not measured: the model has no text tower"):
        align.evaluate(alone, shards, with_=["dense"], draws=0)
    scenes = write(tmp_path, [(*scene(0)[:4], [])])
    with pytest.raises(ValueError, match="dense maps of image are not measured: no sample has regions"):
        align.evaluate(model(), scenes, with_=["dense"], draws=0)
    with pytest.raises(ValueError, match="tower 'image': attention='value' changes the last block"):
        align.evaluate(model(), shards, with_=[Dense("value")], draws=0)


def test_members_are_read_by_name(shards):
    space = Space(model(), shards)
    found = list(space.members(["mask.png"]))
    assert [{name for name in one if not name.startswith("__")} for one in found] == [{"mask.png", "json"}] * 5
    assert found[3]["mask.png"] == png(scene(3, 0.4)[1])
    assert "image.png" in next(space.members(["image", "mask.png"]))
    assert math.isfinite(len(found))
