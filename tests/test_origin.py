"""Origins of published weights and files of preprocesses: they travel with a model, and tell when it has changed."""

from __future__ import annotations

import json
import sys
from typing import ClassVar

import pytest
import tiny_space
import torch
import yaml

import align
from align.checkpoint import read_parts
from align.commands import main
from align.encoders import Encoder, PointNet, Precomputed
from align.model.origin import bit_sum
from align.preprocess import Array, Image, Points
from align.preprocess.text import Text
from align.preprocess.wanted import differences
from align.search.local import LocalIndex
from align.values import Features, Origin

CC = Origin("owner/points", "ab" * 32, "CC-BY-4.0")


class Words(Text):
    """Preprocess of a tokenizer's file: the place of each word in it. It is imported by its path, test_origin.Words."""

    def __init__(self, tokenizer: str, context: int = 4):
        super().__init__(context)
        self.tokenizer = tokenizer
        with open(tokenizer, encoding="utf-8") as file:
            self.text = file.read()
        self.words = json.loads(self.text)

    def assets(self):
        return {"tokenizer": self.text}

    def eval(self, x):
        ids = [self.words.index(word) + 1 for word in x.split()][: self.context]
        return torch.tensor(ids + [0] * (self.context - len(ids)))


class WantsPoints(PointNet):
    """Encoder whose weights were trained on 16 points at their own scale."""

    lengths: ClassVar[int] = 16

    def wants(self):
        arguments = {"points": self.lengths, "preset": "absolute", "color": False}
        return {"class_path": "align.preprocess.Points", "init_args": arguments}


class Bag(Encoder):
    def __init__(self, width: int = 3):
        super().__init__()
        self.width = width
        self.table = torch.nn.Embedding(9, width)

    def encode(self, values):
        return Features(self.table(values).mean(1))


def published(origin=CC):
    torch.manual_seed(0)
    encoder = PointNet(width=8, channels=3, hidden=(8,))
    encoder.origin = origin
    towers = {
        "points": align.Tower(Points(16, color=False), encoder),
        "scan": align.Tower(Points(16, color=False)),
        "sensor": align.Tower(Array((3,)), Precomputed(3)),
    }
    return align.JointModel(towers, 4, share={"scan": "points"})


def test_the_origin_travels_with_the_model(tmp_path):
    align.save(published(), tmp_path / "one")
    parts = json.loads((tmp_path / "one" / "model.json").read_text())["parts"]
    assert parts == {
        "points.encoder": {"source": CC.source, "sha256": CC.sha256, "licence": CC.licence, "changed": False}
    }
    loaded = align.load(tmp_path / "one")
    assert loaded.towers["points"].encoder.origin == CC
    align.save(loaded, tmp_path / "two")
    assert json.loads((tmp_path / "two" / "model.json").read_text())["parts"] == parts


@pytest.mark.parametrize("again", [False, True])
def test_trained_weights_are_changed(tmp_path, again):
    model = published()
    if again:
        align.save(model, tmp_path / "before")
        model = align.load(tmp_path / "before").train()
    with torch.no_grad():
        model.towers["points"].head.project.weight.add_(1)
    assert not read_parts(model)["points.encoder"]["changed"]  # the head is no part of what was published
    with torch.no_grad():
        model.towers["points"].encoder.each[0].weight[0, 0].add_(1e-6)
    assert read_parts(model)["points.encoder"]["changed"]
    align.save(model, tmp_path / "after")
    assert read_parts(align.load(tmp_path / "after"))["points.encoder"]["changed"]


def test_a_model_without_published_weights_has_no_parts(tmp_path):
    align.save(published(None), tmp_path / "model")
    assert "parts" not in json.loads((tmp_path / "model" / "model.json").read_text())


def test_a_tower_takes_the_preprocess_that_its_encoder_wants():
    tower = align.Tower(None, WantsPoints(width=8, channels=3))
    assert (tower.preprocess.points, tower.preprocess.preset, tower.preprocess.color) == (16, "absolute", False)
    with pytest.raises(ValueError, match="PointNet states no preprocess; give one"):
        align.Tower(None, PointNet())


def test_another_preprocess_is_said_for_published_weights_alone():
    align.Tower(Points(16, color=False), WantsPoints(width=8, channels=3))
    encoder = WantsPoints(width=8, channels=3)
    encoder.origin = CC
    align.Tower(Points(16, "absolute", color=False, rotate="up"), encoder)  # augmentation is the trainer's choice
    with pytest.warns(UserWarning, match="owner/points were trained with other preprocessing: preset 'unit_sphere'"):
        align.Tower(Points(16, color=False), encoder)
    with pytest.warns(UserWarning, match="Array instead of Points"):
        align.Tower(Array((16, 3)), encoder)


def test_a_borrower_takes_the_lender_s_preprocess():
    towers = {"points": align.Tower(None, WantsPoints(width=8, channels=3)), "scan": align.Tower()}
    model = align.JointModel(towers, 4, share={"scan": "points"})
    assert model.preprocess["scan"].points == 16


def test_what_comes_of_a_model_repeats_its_origin(tmp_path, capsys):
    model = tiny_space.model("pairwise")
    model.towers["image"].mark_origin(CC)
    align.save(model, tmp_path / "model")
    tiny_space.write_tar(tmp_path / "shards" / "test-000000.tar", dict(list(tiny_space.world().items())[:12]))
    place, trust = str(tmp_path / "model"), ["--allow", "tiny_space"]
    assert main(["evaluate", place, str(tmp_path / "shards" / "test-*.tar"), *trust]) == 0
    assert main(["index", "build", place, str(tmp_path / "shards" / "test-*.tar"), *trust]) == 0
    stated = {"image.encoder": {**CC._asdict()}}
    results = json.loads((tmp_path / "model" / "results.json").read_text())
    assert results["protocol"]["parts"] == stated
    with LocalIndex.open(tmp_path / "model" / "index") as index:
        assert index.about["parts"] == stated
    assert CC.licence in (tmp_path / "model" / "report.html").read_text()


# files of a preprocess


@pytest.fixture
def worded(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "test_origin", sys.modules[__name__])
    (tmp_path / "words.json").write_text(json.dumps(["a", "blue", "cone"]))
    model = align.JointModel({"text": align.Tower(Words(str(tmp_path / "words.json")), Bag())}, 4).eval()
    align.save(model, tmp_path / "model")
    (tmp_path / "words.json").unlink()  # the model does not need it any more
    return model, tmp_path / "model"


def test_a_checkpoint_carries_the_files_of_its_preprocesses(worded, tmp_path):
    model, folder = worded
    assert json.loads((folder / "text.tokenizer.json").read_text()) == ["a", "blue", "cone"]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["model"]["towers"]["text"]["preprocess"]["init_args"]["tokenizer"] == {"asset": "text.tokenizer.json"}
    loaded = align.load(folder, allow=["test_origin"])
    given = ["blue cone", "a a"]
    assert torch.equal(loaded.embed(text=given)["text"], model.embed(text=given)["text"])
    align.save(loaded, tmp_path / "again")
    assert torch.equal(
        align.load(tmp_path / "again", allow=["test_origin"]).embed(text=given)["text"], model.embed(text=given)["text"]
    )


def test_a_damaged_file_is_named(worded):
    _, folder = worded
    (folder / "text.tokenizer.json").write_text('["cone"]')
    with pytest.raises(ValueError, match=r"text.tokenizer.json is damaged"):
        align.load(folder, allow=["test_origin"])
    (folder / "text.tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"tower 'text': tokenizer: no file text.tokenizer.json in the model folder"):
        align.load(folder, allow=["test_origin"])


def test_no_file_outside_the_folder_is_read(worded, tmp_path):
    _, folder = worded
    (tmp_path / "secret.json").write_text('["a"]')
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("asset: text.tokenizer.json", "asset: ../secret.json"))
    with pytest.raises(ValueError, match=r"no file ../secret.json in the model folder"):
        align.load(folder, allow=["test_origin"])


def test_the_sum_of_bits_sees_values_that_change_places():
    """Within a row of its table, within a column, between both, and in the rest that fills no row."""
    x = torch.randn(24_100, generator=torch.Generator().manual_seed(0))  # 23 rows of 1024 values, and 548 values
    plain = bit_sum(x)
    for i, j in ((0, 2), (0, 1), (4, 1028), (4, 1030), (23_600, 23_601), (24_098, 24_099), (3, 24_000)):
        moved = x.clone()
        moved[[i, j]] = x[[j, i]]
        assert bit_sum(moved) != plain, (i, j)
    assert bit_sum(x.view(241, 100)) == bit_sum(x.clone()) == plain


def test_the_sum_of_bits_sees_each_bit_of_each_word():
    """A top bit too, the sign of every second value: a total of weighted sums would lose it modulo 2^64."""
    words = torch.arange(1536)  # three rows of the table
    plain, top = bit_sum(words.double()), -(2**63)
    assert bit_sum(torch.cat([words[:1], -words[1:]]).double()) != plain
    for place, bit in ((0, top), (511, top), (512, 1 << 62), (1535, top), (700, 1 << 52), (3, 1)):
        x = words.double()
        x.view(torch.int64)[place] ^= bit
        assert bit_sum(x) != plain, (place, bit)
    signs = [bit_sum(torch.ones(4096).index_fill(0, torch.tensor([i]), -1.0)) for i in range(0, 4096, 97)]
    assert len({bit_sum(torch.ones(4096)), *signs}) == 1 + len(signs)


def test_the_same_settings_in_other_words_are_no_difference():
    """Lists and tuples, and a preset beside the values that it fills."""
    wanted = {"class_path": "align.preprocess.Image", "init_args": {"size": 32, "preset": "imagenet"}}
    same = {"crop": 0.875, "interpolation": "bilinear", "backend": "pil", "alpha": "drop"}
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    named = Image(32, mean="imagenet", **same)
    assert differences(named, wanted) == []
    stated = {"class_path": "align.preprocess.Image", "init_args": {"size": 32, "mean": mean, "std": std, **same}}
    assert differences(Image(32, mean=tuple(mean), std=tuple(std), **same), stated) == []
    assert differences(Image(32, mean="imagenet", **same | {"crop": 1.0}), wanted) == ["crop 1.0 instead of 0.875"]
