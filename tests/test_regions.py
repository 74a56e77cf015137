"""Regions: boxes that follow their picture, pooled against plain loops, bad ones counted, phrases ranked by hand."""

from __future__ import annotations

import io
import itertools
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image as Pictures
from torch import Tensor, nn

from align import JointModel, Objective, Term, Tower
from align.data import Loader, Shards, ShardWriter, collate
from align.encoders import Mosaic, Regions
from align.encoders.mosaic import join_tiles
from align.encoders.regions import pool_boxes
from align.evaluation.region_ranks import find_ranks, number_phrases, point
from align.grad_cache import Chunks
from align.heads import Identity, Linear
from align.losses import InfoNCE
from align.preprocess import Boxes, Bytes, Image
from align.preprocess.view import Inside
from align.values import BadSample, Batch, Features, Rows

members = {"region": ["json:regions/box"], "region_text": ["json:regions/text"]}


class Patches(nn.Module):
    """(n, 3, 8, 8) to 4 x 4 tokens behind a class token: the means of 2 x 2 pixels, projected."""

    grid_start = 1

    def __init__(self, width: int = 6):
        super().__init__()
        self.width = width
        self.project = nn.Linear(3, width)

    def grid_of(self, values: Tensor) -> tuple[int, int]:
        return values.shape[2] // 2, values.shape[3] // 2

    def forward(self, values: Tensor) -> Features:
        tokens = self.project(F.avg_pool2d(values, 2).flatten(2).mT)  # (n, 16, W)
        first = tokens.mean(1) if len(tokens) else tokens.sum(1)
        return Features(first, torch.cat([first[:, None], tokens], 1))


class Words(nn.Module):
    """(n, context) ids to the mean of their vectors."""

    width = 6

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(259, 6)

    def forward(self, values: Tensor) -> Features:
        return Features(self.table(values).mean(1))


def made(*, head: type[nn.Module] = Identity, mosaic: bool = False, size: int = 8, **image: object) -> JointModel:
    torch.manual_seed(0)
    towers = {
        "region": Tower(encoder=Regions(), head=head),
        "image": Tower(Image(size, mean="plain", **image), Patches()),  # pyright: ignore[reportArgumentType]
        "region_text": Tower(Bytes(12), Words()),
    }
    if mosaic:
        towers["mosaic"] = Tower(encoder=Mosaic(), head=Identity)
    return JointModel(towers, 5)


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Pictures.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def sample(regions: object, *, picture: bytes | None = b"", key: str = "a") -> dict:
    pixels = np.random.default_rng(len(key)).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    found = {"__key__": key, "__url__": "s.tar", "json": json.dumps({"regions": regions}).encode()}
    return found if picture is None else found | {"image.png": picture or png(pixels)}


good = [{"box": [0, 0, 0.5, 0.5], "text": "a dot"}, {"box": [0.25, 0.5, 1, 1], "text": "a bar"}]


def read(samples: list, model: JointModel, **how: object) -> tuple[Batch, dict[str, int]]:
    counts: dict[str, int] = {}

    class Counts:
        def __init__(self) -> None:
            self.members: dict[str, list[str]] = {}

        def count(self, reason: str, n: int = 1, where: str = "") -> None:
            counts[reason] = counts.get(reason, 0) + n

    fixed = {"positions": range(len(samples)), "train": False, "seed": 0, "epoch": 0, "members": members}
    return collate(samples, model.preprocess, shards=Counts(), **(fixed | how)), counts  # pyright: ignore[reportArgumentType]


# -- boxes and the rows of their pictures


@pytest.mark.parametrize("how", ["crop", "squash", "pad"])
@pytest.mark.parametrize("backend", ["torch", "pil", "transformers"])
@pytest.mark.parametrize("train", [False, True])
def test_a_box_lies_where_its_pixels_are(how, backend, train):
    """A white rectangle on black: its box, placed in the view, frames the white pixels of the row."""
    draw = torch.Generator()
    for n, (H, W, size, crop) in enumerate([(40, 60, 32, 1.0), (64, 64, (24, 48), 0.8), (90, 30, 32, 0.875)]):
        reader = Image(size, resize=how, backend=backend, crop=crop, crop_scale=(0.6, 0.9), flip=True, mean="plain")
        picture = torch.zeros(3, H, W, dtype=torch.uint8)
        left, top, right, bottom = (round(x * side) for x, side in [(0.4, W), (0.35, H), (0.7, W), (0.6, H)])
        picture[:, top:bottom, left:right] = 255
        row = reader.train(picture, draw.manual_seed(n)) if train else reader.eval(picture)
        view = reader.view(picture, draw.manual_seed(n) if train else None)
        state = draw.get_state()
        found = view.place((left / W, top / H, right / W, bottom / H))
        height, width = row.shape[1:]
        ys, xs = (row[0] > 127).nonzero(as_tuple=True)
        seen = [xs.min() / width, ys.min() / height, (xs.max() + 1) / width, (ys.max() + 1) / height]
        clipped = [min(max(x, 0), 1) for x in found]
        assert clipped == pytest.approx([float(x) for x in seen], abs=1.2 / min(height, width)), (H, W, size)
        if train:
            reader.train(picture, draw.manual_seed(n))
            assert torch.equal(draw.get_state(), state)  # it draws as often


def test_a_region_follows_the_draws_of_its_picture_in_a_batch():
    """The quarter of a picture that is white stays under its box through crop and mirror, at every position."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16, :16] = 255
    model = made(size=16, crop_scale=(0.5, 0.9), flip=True)
    corner = [{"box": [0, 0, 0.5, 0.5], "text": "a"}, {"box": [0.1, 0.1, 0.4, 0.4], "text": "b"}]
    batch, _ = read([sample(corner, picture=png(pixels))] * 12, model, train=True)
    boxes, pictures = batch["region"].values["box"], batch["image"].values  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert batch["region"].n > 12
    for box, s, part in zip(boxes, batch["region"].sample.tolist(), batch["region"].part.tolist(), strict=True):  # pyright: ignore[reportOptionalMemberAccess]
        x0, y0, x1, y1 = (round(float(x) * 16) for x in box)
        light = pictures[s][0].float()  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue, reportCallIssue]
        inside = light[y0:y1, x0:x1]
        assert inside.mean() > 200
        if part == 0:  # the box holds all the light
            assert light.sum() - inside.sum() <= 0.25 * light.sum()
    assert len({tuple(box.tolist()) for box in boxes}) > 8


def test_a_region_outside_the_crop_is_a_hole():
    reader, picture = Boxes(), torch.zeros(3, 20, 20, dtype=torch.uint8)
    cut = Image(8, crop=0.5, mean="plain")  # the middle half
    seen = reader.row(Inside([0.25, 0.25, 0.5, 0.5], picture, cut))
    assert seen.tolist() == pytest.approx([0, 0, 0.5, 0.5])
    assert reader.row(Inside([0.0, 0.25, 0.6, 0.5], picture, cut)).tolist() == pytest.approx([0, 0, 0.7, 0.5])
    with pytest.raises(BadSample, match="unseen"):
        reader.row(Inside([0.0, 0.25, 0.4, 0.5], picture, cut))  # 0.15 of 0.4
    with pytest.raises(TypeError, match="a box is read with its image"):
        reader.row([0, 0, 1, 1])
    with pytest.raises(ValueError, match="Bytes has no view"):
        reader.row(Inside([0, 0, 1, 1], "a", Bytes(8)))


# -- rows of the json


bad = {
    "outside": ([-0.1, 0, 0.5, 0.5], "region/box"),
    "pixels": ([3, 4, 20, 30], "region/box"),
    "empty": ([0.5, 0, 0.5, 1], "region/box"),
    "nan": ([math.nan, 0, 1, 1], "region/box"),
    "three": ([0, 0, 1], "region/box"),
    "true": ([True, 0, 1, 1], "region/box"),
    "text": ("here", "region/box"),
    "object": ({"x": 1}, "region/box"),
    "none": (None, "region/no-box"),
}


def test_bad_boxes_and_texts_cost_their_row_and_are_counted():
    model = made()
    regions = [{"box": box, "text": name} for name, (box, _) in bad.items()]
    regions += [{"box": [0, 0, 1, 1]}, {"box": [0, 0, 1, 1], "text": " "}, {"box": [0, 0, 1, 1], "text": 5}, 7]
    batch, counts = read([sample(regions + good), sample("none"), sample(good, picture=None), sample(None)], model)
    expected = {"region/box": 8, "region/no-box": 1, "region/list": 2, "region/alone": 2}
    expected |= {"region_text/no-text": 2, "region_text/not-text": 1, "region_text/list": 2}
    assert counts == expected
    region, text = batch["region"], batch["region_text"]
    assert region.sample.tolist() == [0] * 5
    assert region.part.tolist() == [9, 10, 11, 13, 14]  # pyright: ignore[reportOptionalMemberAccess]
    assert text.sample.tolist() == [0] * 11 + [2, 2]
    assert text.part.tolist() == [*range(9), 13, 14, 0, 1]  # pyright: ignore[reportOptionalMemberAccess]
    assert batch["image"].part is None
    from align.data.bad import is_fault

    assert [is_fault(f"region/{reason}") for reason in ("alone", "unseen", "box")] == [False, False, True]


def test_a_picture_that_cannot_be_read_leaves_its_regions_alone():
    batch, counts = read([sample(good, picture=b"no picture"), sample(good)], made())
    assert counts == {"image/not-an-image": 1, "region/alone": 2}
    assert batch["region"].sample.tolist() == [1, 1]
    two = {"image.0.png": b"no picture", "image.1.png": sample(good)["image.png"]}
    batch, counts = read([sample(good, picture=None) | two], made())
    assert counts == {"image/not-an-image": 1, "region/alone": 2}  # the first picture is the one
    assert (batch["image"].n, batch["region"].n) == (1, 0)


def test_a_key_with_a_slash_is_still_a_key():
    odd = {"__key__": "a", "json": json.dumps({"regions/text": "plain", "regions": good}).encode()}
    batch, _ = read([odd], made())
    assert batch["region_text"].n == 1
    assert batch["region_text"].part is None


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regions")
    with ShardWriter(folder, "train", per_shard=8) as writer:
        for i in range(24):
            made_of = sample(good if i % 3 else [*good, {"box": [0, 0, 2, 2], "text": "x"}], key="k" * (i + 1))
            if i % 5 == 4:
                del made_of["image.png"]
            writer.write(f"k{i:02d}", {m: x for m, x in made_of.items() if not m.startswith("__")})
    return Shards(str(folder / "train-*.tar"), members=members, max_bad=1)


def test_workers_change_no_bit(shards):
    model = made(crop_scale=(0.5, 1.0), flip=True)
    how = {"batch": 6, "train": True, "steps": 6}
    alone = [*Loader(shards, model.preprocess, **how)]
    loader = Loader(shards, model.preprocess, workers=2, **how)
    kept = [*Loader(shards, model.preprocess, keep=1 << 20, **how)]
    for ours, theirs in itertools.chain(zip(alone, loader, strict=True), zip(alone, kept, strict=True)):
        for m, rows in ours.items():
            assert torch.equal(rows.sample, theirs[m].sample)
            assert (rows.part is None) == (theirs[m].part is None)
            assert rows.part is None or torch.equal(rows.part, theirs[m].part)  # pyright: ignore[reportArgumentType]
            values, others = rows.values, theirs[m].values
            for x in values if isinstance(values, dict) else [...]:
                assert torch.equal(values[x], others[x])  # pyright: ignore[reportArgumentType, reportCallIssue]
    loader.close()
    assert any(batch["region"].part is not None for batch in alone)


def test_a_check_names_bad_regions(shards):
    from align.curation.check.diagnosis import diagnose

    found = {f.reason: f.count for f in diagnose(str(shards.urls[0].parent / "train-*.tar")).findings}  # pyright: ignore[reportAttributeAccessIssue]
    assert found["region/box"] == 8
    assert "region/unreadable" not in found


# -- the tower


def roi_loop(grid: Tensor, box: list[float]) -> Tensor:
    """RoIAlign of one bin by its definition. grid: (D, H, W), box in fractions."""
    D, H, W = grid.shape
    x0, y0, x1, y1 = box[0] * W - 0.5, box[1] * H - 0.5, box[2] * W - 0.5, box[3] * H - 0.5
    ny, nx = math.ceil(y1 - y0), math.ceil(x1 - x0)
    total = torch.zeros(D, dtype=grid.dtype)
    for i, j in itertools.product(range(ny), range(nx)):
        y, x = y0 + (i + 0.5) * (y1 - y0) / ny, x0 + (j + 0.5) * (x1 - x0) / nx
        y, x = min(max(y, 0), H - 1), min(max(x, 0), W - 1)
        for yy, xx in itertools.product((math.floor(y), math.floor(y) + 1), (math.floor(x), math.floor(x) + 1)):
            share = (1 - abs(y - yy)) * (1 - abs(x - xx))
            if share > 0:
                total += share * grid[:, yy, xx]
    return total / (ny * nx)


def test_pooling_is_roi_align():
    torch.manual_seed(1)
    maps = torch.randn(3, 5, 4, 6, dtype=torch.float64)
    box = torch.tensor([[0, 0, 1, 1], [0.1, 0.3, 0.85, 0.5], [0.5, 0.5, 0.52, 0.6], [0, 0.9, 0.3, 1]]).double()
    at = torch.tensor([2, 0, 1, 2])
    pooled = pool_boxes({"box": box, "map": maps, "at": at}, "image")
    for row, one, i in zip(pooled, box.tolist(), at.tolist(), strict=True):
        assert torch.allclose(row, roi_loop(maps[i], one), atol=1e-12)


@pytest.mark.parametrize("head", [Identity, Linear])
def test_regions_are_pooled_from_the_tokens_of_their_picture(head):
    model = made(head=head).double()
    batch, _ = read([sample(good), sample(good, picture=None), sample(good, key="ab"), sample(None, key="abc")], model)
    out = model(batch)
    tower = model.towers["image"]
    features = tower.features(batch["image"].values)
    maps = tower.head(features, tokens=True)[1][:, 1:].mT.unflatten(2, (4, 4))
    expected = torch.stack([roi_loop(maps[i], r["box"]) for i in (0, 1) for r in good])
    if head is Linear:
        expected = expected @ model.towers["region"].head.project.weight.T
    assert torch.allclose(out["region"].values, F.normalize(expected, dim=1), atol=1e-6)  # pyright: ignore[reportArgumentType]
    assert out["region"].sample.tolist() == [0, 0, 2, 2]
    assert out["region"].part.tolist() == [0, 1, 0, 1]  # pyright: ignore[reportOptionalMemberAccess]
    assert torch.equal(out["image"].values, model._unit(tower(batch["image"].values)))  # pyright: ignore[reportArgumentType]
    assert out["image"].tokens is None
    assert model(batch, tokens=["image"])["image"].tokens.shape == (3, 17, 5)  # pyright: ignore[reportOptionalMemberAccess]


def test_rows_of_a_batch_by_hand_lose_those_without_a_picture():
    model = made()
    batch, _ = read([sample(good), sample(good, key="ab")], model)
    batch.rows["image"] = batch["image"]._replace(sample=torch.tensor([-1, 1]))  # the first is a hard negative
    assert model(batch)["region"].sample.tolist() == [1, 1]
    several = Rows(torch.cat([batch["image"].values] * 2), torch.tensor([0, 0, 1, 1]))  # pyright: ignore[reportArgumentType]
    batch.rows["image"] = several._replace(values=several.values[torch.tensor([1, 0, 0, 1])])  # pyright: ignore[reportArgumentType, reportCallIssue]
    alone, _ = read([sample(good, key="ab"), sample(good)], model)
    assert torch.allclose(model(batch)["region"].values, model(alone)["region"].values, atol=1e-6)  # pyright: ignore[reportArgumentType]


def test_every_gradient_is_there_without_a_region_or_a_picture():
    model = made(mosaic=True)
    terms = {"r": Term(InfoNCE(), ["region", "region_text"]), "m": Term(InfoNCE(), ["mosaic", "region_text"])}
    objective = Objective(terms, dim=5, batch=2, modalities=model.modalities)
    for samples in ([sample(None), sample([], key="ab")], [sample(good, picture=None)], [None, None]):
        model.zero_grad()
        batch, _ = read(samples, model)
        out = model(batch)
        assert out["region"].n == 0
        objective(out)[0].backward()
        assert all(p.grad is not None and not p.grad.any() for p in model.towers["image"].parameters())


def test_chunks_of_the_picture_change_no_gradient():
    model = made(mosaic=True).double()
    terms = {"r": Term(InfoNCE(), ["region", "region_text"]), "m": Term(InfoNCE(), ["mosaic", "region_text"])}
    objective = Objective(terms, dim=5, batch=8, modalities=model.modalities).double()
    batch, _ = read([sample(good, key="k" * i) for i in range(1, 9)], model)
    grads = []
    for run in (None, Chunks(2, model.modalities)):
        model.zero_grad()
        draws = {"mosaic": torch.Generator().manual_seed(3)}
        objective(model(batch, generators=draws, run=run))[0].backward()
        grads.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert grads[0]["towers.image.encoder.project.weight"].abs().max() > 0
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-9, atol=1e-12)


def test_raw_regions_are_pictures_with_boxes():
    model = made()
    data = [sample(good), sample(good, key="ab")]
    inputs = [{"image": one["image.png"], "box": r["box"]} for one in data for r in good]
    batch, _ = read(data, model)
    for size in (64, 3):
        found = model.embed(batch_size=size, region=inputs)["region"]
        assert torch.allclose(found, model(batch)["region"].values, atol=1e-6)  # pyright: ignore[reportArgumentType]
    assert model.embed(region=[])["region"].shape == (0, 5)
    with pytest.raises(ValueError, match=r"region\[1\] .*takes \{'image': …, 'box'"):
        model.embed(region=[inputs[0], "a.png"])
    with pytest.raises(BadSample, match=r"box: region\[0\].* leaves the picture"):
        model.embed(region=[{"image": data[0]["image.png"], "box": [0, 0, 8, 8]}])
    with pytest.raises(ValueError, match="'mosaic' has rows in training alone"):
        made(mosaic=True).embed(mosaic=inputs)
    with pytest.raises(ValueError, match="regions read the tokens of 'image'"):
        model.embed_values("region", {"box": torch.zeros(1, 4)})


def test_what_no_region_can_read_is_refused():

    def image():
        return Tower(Image(8, mean="plain"), Patches())

    with pytest.raises(
        ValueError, match="'region' reads the tokens of tower 'photo', which is not there; there are image"
    ):
        JointModel({"image": image(), "region": Tower(encoder=Regions("photo"), head=Identity)}, 5)
    with pytest.raises(ValueError, match="'b' reads the tokens of tower 'a', which reads another tower itself"):
        JointModel({"image": image(), "a": Tower(encoder=Regions()), "b": Tower(encoder=Regions("a"))}, 5)
    with pytest.raises(ValueError, match="Boxes gives of photo, Regions takes of image"):
        Tower(Boxes("photo"), Regions())
    model = JointModel({"text": Tower(Bytes(12), Words()), "region": Tower(encoder=Regions("text"))}, 5)
    with pytest.raises(ValueError, match="tower 'text': tokens were asked for"):
        model(Batch({}, [], torch.zeros(0).long()))
    plain = made()
    del type(plain.towers["image"].encoder).grid_of
    try:
        with pytest.raises(ValueError, match="the encoder of 'image' gives no grid"):
            plain(read([sample(good)], plain)[0])
    finally:
        Patches.grid_of = lambda self, values: (values.shape[2] // 2, values.shape[3] // 2)  # pyright: ignore[reportAttributeAccessIssue]


# -- mosaics


def test_tiles_are_the_pictures_scaled_down():
    pictures = torch.arange(8 * 3 * 4 * 4).reshape(8, 3, 4, 4).to(torch.uint8)
    out = join_tiles(pictures, 2)
    assert out.dtype == torch.uint8
    for k, (row, column) in itertools.product(range(2), itertools.product(range(2), range(2))):
        small = F.avg_pool2d(pictures[4 * k + 2 * row + column].float(), 2).round()
        assert torch.equal(out[k, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].float(), small)


def test_a_mosaic_has_a_row_for_each_of_its_pictures():
    """Every picture one colour: a tile's row is the embedding of its own sample's colour, whatever the order."""
    model = made(mosaic=True)
    pixels = [np.full((8, 8, 3), [25 * i, 255 - 20 * i, 9 * i], np.uint8) for i in range(10)]
    batch, _ = read([sample(None, picture=png(p), key="k" * (i + 1)) for i, p in enumerate(pixels)], model)
    batch.rows["image"] = batch["image"]._replace(sample=torch.tensor([0, 1, 2, -1, 4, 5, 6, 7, 8, 9]))
    colours = model._unit(model.towers["image"](batch["image"].values))
    orders = set()
    for seed in range(4):
        draws = {"mosaic": torch.Generator().manual_seed(seed)}
        rows = model(batch, generators=draws)["mosaic"]
        assert rows.n == 8  # two mosaics of nine pictures
        assert rows.part is None
        assert rows.sample.tolist() == sorted({*rows.sample.tolist()} - {-1, 3})
        again = model(batch, generators={"mosaic": draws["mosaic"].manual_seed(seed)})["mosaic"]
        assert torch.equal(rows.values, again.values)  # pyright: ignore[reportArgumentType]
        cosines = rows.values @ colours.T  # pyright: ignore[reportOperatorIssue]
        assert cosines.argmax(1).tolist() == rows.sample.tolist()
        orders.add(tuple(rows.sample.tolist()))
    assert len(orders) > 1  # another picture is left out
    assert model.eval()(batch)["mosaic"].n == 0


def test_what_is_no_mosaic_is_refused():
    with pytest.raises(ValueError, match="at least 2 tiles a side, not 1"):
        Mosaic(side=1)
    model = JointModel({"image": Tower(Image(8, mean="plain"), Patches()), "m": Tower(encoder=Mosaic(side=3))}, 5)
    with pytest.raises(
        ValueError, match=r"tower 'm': Mosaic joins pictures .* sides 3 divides; 'image' gives \(1, 3, 8, 8\)"
    ):
        model(read([sample(None)], model)[0])


# -- the evaluator


def test_ranks_and_pointing_are_those_of_a_loop():
    draw = torch.Generator().manual_seed(5)
    owner = [0, 0, 0, 1, 1, 2, 3, 3]
    part = [0, 1, 2, 0, 1, 0, 0, 1]
    words = [7, 8, 9, 7, 7, 8, 1, -1]  # -1: of unknown content
    owners, parts = torch.tensor(owner), torch.tensor(part)
    x = F.normalize(torch.randn(16, 4, generator=draw), dim=1)
    phrases = Rows(x[:8], owners, part=parts, content=torch.tensor(words))
    keep = torch.tensor([0, 1, 3, 4, 5, 6])  # regions 2 of sample 0 and 1 of sample 3 have no row
    regions = Rows(x[8:][keep], owners[keep], part=parts[keep])
    box, place = torch.rand(8, 4, generator=draw)[keep], torch.rand(8, 2, generator=draw)
    box[:, 2:] = box[:, :2] + 0.6
    a, b = number_phrases(phrases, regions)
    found = find_ranks(phrases.values, phrases.sample, a, regions.values, regions.sample, b)  # pyright: ignore[reportArgumentType]
    hit, share = point(place, phrases.sample, a, box, regions.sample, b)
    cosines = x[:8] @ x[8:][keep].T
    for i in range(8):
        right = [j for j, k in enumerate(keep.tolist()) if (words[k] == words[i] if words[i] >= 0 else k == i)]
        inside = [j for j, k in enumerate(keep.tolist()) if owner[k] == owner[i]]
        for rank, among in ((found.rank, range(6)), (found.within, inside)):
            best = max((cosines[i, j] for j in right if j in among), default=None)
            worse = [j for j in among if j not in right and best is not None and cosines[i, j] >= best]
            assert rank[i] == (0 if best is None else 1 + len(worse))
        own = [j for j in right if j in inside]
        assert found.answers[i] == len(own)
        assert found.chance[i] == pytest.approx(len(own) / len(inside))
        x, y = place[i].tolist()
        assert hit[i] == any(box[j][0] <= x < box[j][2] and box[j][1] <= y < box[j][3] for j in own)
        assert share[i] == pytest.approx(min(1, 0.36 * len(own)))


def test_the_evaluator_reads_a_model_and_shards(shards):
    from align.evaluation import RegionRecall, Space

    model = made().eval()
    found = RegionRecall().run(Space(model, shards, draws=0, batch=5))
    table = Space(model, shards, draws=0).table("tokens")
    assert table["region"].part is not None
    hits = []
    tokens = table["image"].tokens[:, 1:]  # pyright: ignore[reportOptionalSubscript]
    pictures = {s: i for i, s in enumerate(table["image"].sample.tolist())}
    rows = table["region_text"]
    asking = zip(rows.values, rows.sample.tolist(), rows.part.tolist(), strict=True)  # pyright: ignore[reportOptionalMemberAccess, reportArgumentType]
    for x, s, k in asking:
        if s in pictures and k < 2:
            y, x_ = divmod(int((tokens[pictures[s]] @ x).argmax()), 4)  # pyright: ignore[reportOperatorIssue]
            left, top, right, bottom = good[k]["box"]  # pyright: ignore[reportAssignmentType]
            hits.append(left <= (x_ + 0.5) / 4 < right and top <= (y + 0.5) / 4 < bottom)
    assert found.scores["regions/pointing"] == pytest.approx(sum(hits) / len(hits))
    assert found.scores["regions/picture/chance"] == pytest.approx(0.5)
    assert found.scores["regions/pointing/chance"] == pytest.approx((0.25 + 0.375) / 2)
    assert 0 <= found.scores["regions/recall@1"] <= found.scores["regions/recall@5"] <= 1
    assert RegionRecall("image").run(Space(model, shards, draws=0)).scores == {}


# -- regions in a build


def test_a_build_makes_boxes_of_pixels_and_masks_and_captions_of_regions(tmp_path):
    from align.curation import build

    mask = np.zeros((8, 16), np.uint8)
    mask[2:5, 4:12], mask[6:, :3] = 1, 7
    Pictures.fromarray(mask).save(tmp_path / "mask.png")
    Pictures.fromarray(np.random.default_rng(0).integers(0, 255, (8, 16, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    plane = {"text": "plane", "pixels": [4, 2, 12, 6]}
    rows = [
        {"image": "a.png", "regions": [plane, plane, {"text": "car", "box": [0, 0, 0.1, 0.1]}]},
        {"image": "a.png", "mask": "mask.png", "regions": json.dumps([{"text": "x", "mask": k} for k in (1, 7, 3)])},
        {"image": "a.png", "text": "mine", "regions": [{"text": "out", "pixels": [4, 2, 40, 6]}, {"text": "none"}]},
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    build(str(tmp_path / "t.jsonl"), str(tmp_path / "out"), modalities=("image", "text", "mask"), max_bad=1)
    found = Shards(str(tmp_path / "out" / "train-*.tar"), shuffle=False, members=members, max_bad=1)
    stated = [json.loads(found.read(i)[0]["json"])["regions"] for i in range(3)]
    assert stated[0] == [{"text": "plane", "box": [0.25, 0.25, 0.75, 0.75]}] * 2 + [rows[0]["regions"][2]]
    assert found.read(0)[0]["text.txt"].decode().splitlines() == [
        "two planes and a car",
        "two planes in the middle",
        "a car around the middle",
    ]
    assert [region.get("box") for region in stated[1]] == [[0.25, 0.25, 0.75, 0.625], [0, 0.75, 0.1875, 1], None]
    assert found.read(2)[0]["text.txt"] == b"mine"
    reasons = [json.loads(line)["reason"] for line in (tmp_path / "out" / "train-bad.jsonl").read_text().splitlines()]
    assert sorted(reasons) == ["region/box", "region/no-box", "region/no-box"]
    with pytest.raises(ValueError, match=r"row 1: regions '\{\}' are no list of"):
        (tmp_path / "u.csv").write_text("image,regions\na.png,{}\n")
        build(str(tmp_path / "u.csv"), str(tmp_path / "no"))
    assert not [*(tmp_path / "no").glob("*.tar")]


ODD = {
    "empty text": ({"box": [0, 0, 0.5, 1], "text": ""}, "region_text/blank"),
    "blank text": ({"box": [0, 0, 0.5, 1], "text": " \n"}, "region_text/blank"),
    "no text": ({"box": [0, 0, 0.5, 1]}, "region_text/blank"),
    "a number as text": ({"box": [0, 0, 0.5, 1], "text": 5}, "region_text/blank"),
    "a text in a box": ({"box": [0, 0, "1", 1], "text": "car"}, "region/box"),
    "a short box": ({"box": [0.1], "text": "car"}, "region/box"),
    "a word": ({"box": "here", "text": "car"}, "region/box"),
    "an object": ({"box": {"x": 1}, "text": "car"}, "region/box"),
    "outside": ({"box": [0, 0, 1.5, 1], "text": "car"}, "region/box"),
    "no mask": ({"mask": [1], "text": "car"}, "region/box"),
    "no object": ("car", "region/list"),
}


@pytest.mark.parametrize("name", ODD)
def test_a_bad_region_of_a_build_is_counted_and_has_no_caption(name, tmp_path, capsys):
    """It is written as it came, and the caption by rule names the regions with a box and a text alone."""
    from align.commands import main

    odd, reason = ODD[name]
    good = {"box": [0.5, 0, 1, 1], "text": "green\nplane"}
    Pictures.fromarray(np.zeros((8, 16, 3), np.uint8)).save(tmp_path / "a.png")
    rows = [{"image": "a.png", "regions": regions} for regions in ([odd], [good, odd])]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    main(
        ["shards", "build", str(tmp_path / "t.jsonl"), str(tmp_path / "out"), "--modalities=image,text", "--max-bad=1"]
    )
    found = Shards(str(tmp_path / "out" / "train-*.tar"), shuffle=False, members=members, max_bad=1)
    (alone, _), (both, _) = found.read(0), found.read(1)
    assert json.loads(alone["json"])["regions"] == [odd]
    assert "text.txt" not in alone
    assert both["text.txt"] == b"a green plane"
    reasons = [json.loads(line)["reason"] for line in (tmp_path / "out" / "train-bad.jsonl").read_text().splitlines()]
    assert reasons == [reason] * 2
    assert "regions without a good box or a text: 2 faults, written as they came; see" in capsys.readouterr().out


def tower(preprocess: str, of_preprocess: dict, encoder: str, of_encoder: dict) -> dict:
    made_of = [(f"preprocess.{preprocess}", of_preprocess), (f"encoders.{encoder}", of_encoder)]
    read, encode = [{"class_path": f"align.{path}", "init_args": arguments} for path, arguments in made_of]
    return {"preprocess": read, "encoder": encode}


@pytest.mark.sweep
def test_a_run_with_regions_resumes_to_the_bit(shards, tmp_path):
    """Four steps in one go are two and two, bit for bit."""
    import align
    from align.commands import main

    picture = {"size": 16, "mean": "plain", "flip": True, "crop_scale": [0.5, 1.0]}
    identity = {"head": "align.heads.Identity"}
    towers = {
        "image": tower("Image", picture, "ImageCNN", {"width": 8, "widths": [8, 8], "stem": 2}),
        "region_text": tower("Bytes", {"context": 12}, "TransformerText", {"context": 12, "width": 8, "depth": 1}),
        "region": tower("Boxes", {}, "Regions", {}) | identity,
        "mosaic": tower("Boxes", {}, "Mosaic", {}) | identity,
    }
    loss = "align.losses.InfoNCE"
    terms = {m: {"loss": loss, "between": [m, "region_text"]} for m in ("region", "mosaic")}
    pattern = str(shards.urls[0].parent / "train-*.tar")
    config = {
        "model": {"dim": 8, "towers": towers},
        "objective": {"terms": terms},
        "data": {"train": pattern, "members": members, "batch": 8, "workers": 0, "max_bad": 1},
        "optim": {"warmup": 0, "final": 1.0},
        "trainer": {"max_steps": 4},
    }
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    for name, steps in (("whole", 4), ("cut", 2), ("cut", 4)):
        run = ["--config", str(tmp_path / "c.yaml"), "--run", str(tmp_path / name), f"--trainer.max_steps={steps}"]
        assert main(["train", *run]) == 0
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]
    assert align.load(str(tmp_path / "cut")).follows == {"region": "image", "mosaic": "image"}
