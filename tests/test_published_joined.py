"""Published models beside each other, and some towers of one: `align import --beside`, `--towers`."""

import hf_models
import pytest
import tiny
import torch
from jsonargparse import ArgumentParser

import align
from align import JointModel, Tower
from align.commands import main
from align.encoders import Encoder
from align.heads import Identity
from align.preprocess import Array
from align.published import load_encoder
from align.published.joined import join, keep_towers
from align.values import TermInfo

PAIR, POINT = TermInfo(("image", "text"), "pairwise", 30.0), TermInfo(("points", "image"), "pairwise", 20.0)


def model(*names, width=4, share=None, normalize=True, terms=()):
    towers = {n: Tower(Array((6,)), None if n in (share or {}) else tiny.Dense(width), Identity) for n in names}
    made = JointModel(towers, width, share, normalize)
    made.terms = list(terms)
    return made.eval()


def test_a_model_beside_another_embeds_as_each_did_alone():
    points, clip = model("points", terms=[POINT]), model("image", "text", terms=[PAIR])
    x = {name: [torch.randn(6)] * 2 for name in ("points", "image", "text")}
    before = points.embed(points=x["points"]) | clip.embed(image=x["image"], text=x["text"])
    both = join(points, {"clip-hf:b32": clip})
    assert both.modalities == ["points", "image", "text"]
    assert both.terms == [POINT, PAIR]
    after = both.embed(**x)
    assert all(torch.equal(after[name], before[name]) for name in x)


def test_models_that_do_not_fit_are_refused_in_one_line():
    points = model("points")
    with pytest.raises(
        ValueError, match="clip-hf:b32 has vectors of 5 numbers, the model beside it of 4: they are not of one space"
    ):
        join(points, {"clip-hf:b32": model("image", width=5)})
    with pytest.raises(
        ValueError, match="uni3d:x has a tower 'points' too; models beside each other have no modality in"
    ):
        join(points, {"uni3d:x": model("points")})
    with pytest.raises(ValueError, match="do not both have unit vectors"):
        join(points, {"x:y": model("image", normalize=False)})


def test_a_tower_that_borrowed_its_encoder_stands_alone():
    whole = model("image", "video", "text", share={"video": "image"}, terms=[PAIR])
    x = [torch.randn(6)] * 2
    before = whole.embed(video=x)["video"]
    alone = keep_towers(whole, ["video"])
    assert (alone.modalities, alone.share, alone.terms) == (["video"], None, [])
    assert any(name.startswith("towers.video.encoder.") for name in alone.state_dict())
    assert torch.equal(alone.embed(video=x)["video"], before)
    both = keep_towers(model("image", "video", "text", share={"video": "image"}, terms=[PAIR]), ["video", "image"])
    assert both.share == {"video": "image"}
    with pytest.raises(ValueError, match="no tower 'sound'; the towers are image, video, text"):
        keep_towers(model("image", "video", "text", share={"video": "image"}), ["sound"])


def test_the_command_says_whose_weights_a_tower_shares(tmp_path, capsys):
    pytest.importorskip("transformers")
    source = str(hf_models.clip(tmp_path / "clip"))
    assert main(["import", "clip-hf", source, str(tmp_path / "out"), "--video", "mean"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    (video,) = [row for row in rows if row[:2] == ["video", "0"]]
    assert video == ["video", "0", "unstated", "those", "of", "image"]


def test_the_command_keeps_the_towers_that_it_is_told(tmp_path, capsys):
    pytest.importorskip("transformers")
    source = str(hf_models.clip(tmp_path / "clip"))
    assert main(["import", "clip-hf", source, str(tmp_path / "text"), "--towers", "text"]) == 0
    assert align.load(tmp_path / "text").modalities == ["text"]
    capsys.readouterr()
    assert main(["import", "clip-hf", source, str(tmp_path / "out"), "--towers", "sound"]) == 1
    assert capsys.readouterr().err == "align: no tower 'sound'; the towers are image, text\n"
    for option in ("--towers", "--beside"):
        assert main(["import", "clip-hf", source, str(tmp_path / "out"), option, " , "]) == 2
        assert f"{option} is empty; leave it out" in capsys.readouterr().err
    assert main(["import", "clip-hf", source, str(tmp_path / "out"), "--beside", f"clip-hf:{source}"]) == 1
    assert "has a tower 'image' too" in capsys.readouterr().err
    assert main(["import", "clip-hf", source, str(tmp_path / "out"), "--beside", "b32"]) == 1
    assert capsys.readouterr().err == "align: beside 'b32': a published model is LAYOUT:SOURCE\n"
    assert not (tmp_path / "out").exists()


def test_a_config_starts_from_the_encoder_of_any_layout(tmp_path):
    pytest.importorskip("transformers")
    source = f"clip-hf:{hf_models.clip(tmp_path / 'clip')}"
    encoder, tower = load_encoder(source, "image"), align.load_tower(source, "image")
    assert encoder.training
    assert encoder.origin is not None
    x = torch.rand(2, 3, tower.preprocess.size, tower.preprocess.size)
    assert torch.equal(encoder.eval()(x).pooled, tower.encoder(x).pooled)
    told = {"class_path": "align.published.load_encoder", "init_args": {"source": source, "modality": "image"}}
    parser = ArgumentParser()
    parser.add_argument("--encoder", type=Encoder)
    read = parser.instantiate(parser.parse_object({"encoder": told})).encoder
    assert torch.equal(read.eval()(x).pooled, encoder(x).pooled)
    with pytest.raises(ValueError, match="no tower 'sound'; the towers are image, text"):
        load_encoder(source, "sound")
    with pytest.raises(ValueError, match=r"source .model\.pt.: a published model is LAYOUT:SOURCE, as in"):
        load_encoder("model.pt", "points")
