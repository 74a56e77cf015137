"""Model folders: what goes in comes out, nothing in them runs code, and damage is named."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
import yaml
from torch import nn

import align
from align.checkpoint import build, describe, find_checkpoint, transcript
from align.checkpoint.source import locate
from align.encoders import PointNet, Precomputed, TransformerText
from align.files import write_json
from align.heads import MLP, AttentionPool, Linear
from align.preprocess import Array, Bytes, Points


@pytest.fixture
def model():
    torch.manual_seed(0)
    towers = {
        "points": align.Tower(
            Points(points=32, preset="absolute"), PointNet(width=16), lambda w, d: MLP(w, d, hidden=8)
        ),
        "text": align.Tower(Bytes(context=24), TransformerText(context=24, width=16, depth=1, heads=2), AttentionPool),
        "sensor": align.Tower(Array((6,)), Precomputed(6)),
        "second": align.Tower(Array((6,)), None, Linear),
    }
    made = align.JointModel(towers, 8, share={"second": "sensor"}).eval()
    made.terms = [align.TermInfo(("points", "text"), "pairwise", 14.5, -1.0)]
    return made


def inputs():
    torch.manual_seed(1)
    return {"points": [torch.randn(40, 3)], "text": ["a torus"], "sensor": [torch.randn(6)], "second": [torch.randn(6)]}


def test_a_model_comes_back_the_same(model, tmp_path):
    folder = align.save(model, tmp_path / "model")
    assert sorted(p.name for p in folder.iterdir()) == ["config.yaml", "model.json", "model.safetensors"]
    loaded = align.load(folder)
    assert transcript(loaded) == transcript(model)
    assert loaded.terms == model.terms
    assert not loaded.training
    given = inputs()
    for m, want in model.embed(**given).items():
        torch.testing.assert_close(loaded.embed(**given)[m], want, rtol=0, atol=0)


def test_the_config_is_the_transcript_of_the_call(model, tmp_path):
    config = yaml.safe_load((align.save(model, tmp_path / "model") / "config.yaml").read_text())
    tower = config["model"]["towers"]["points"]
    assert tower["encoder"]["class_path"] == "align.encoders.PointNet"
    assert tower["head"] == {"class_path": "align.heads.MLP", "init_args": tower["head"]["init_args"]}
    assert tower["head"]["init_args"]["hidden"] == 8
    assert config["model"]["share"] == {"second": "sensor"}
    assert config["model"]["towers"]["second"]["encoder"] is None


def test_a_model_saved_twice_replaces_the_first(model, tmp_path):
    align.save(model, tmp_path / "model")
    model.terms = []
    align.save(model, tmp_path / "model")
    assert align.load(tmp_path / "model").terms == []
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_folder_of_something_else_is_kept(model, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"mine")
    with pytest.raises(ValueError, match="photos is no model folder, and what is in it would be lost"):
        align.save(model, tmp_path / "photos")
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["a.jpg"]
    (tmp_path / "empty").mkdir()
    assert (align.save(model, tmp_path / "empty") / "model.json").is_file()


def test_a_tower_comes_alone(model, tmp_path):
    align.save(model, tmp_path / "model")
    tower = align.load_tower(tmp_path / "model", "sensor")
    assert tower(torch.zeros(2, 6)).shape == (2, 8)
    with pytest.raises(ValueError, match="no tower 'senser'; it has points, text, sensor, second"):
        align.load_tower(tmp_path / "model", "senser")


def test_a_flipped_byte_is_named(model, tmp_path):
    file = align.save(model, tmp_path / "model") / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"model.safetensors is damaged"):
        align.load(tmp_path / "model")


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("model.json", '{"schema": 2}', "has schema 2; this align .* reads up to 1"),
        ("model.json", "{", "is damaged"),
        ("config.yaml", "model: [", "is no model config"),
        ("config.yaml", "other: 3", "is no model config"),
        ("config.yaml", "model: !!python/object/apply:os.system ['touch pwned']", "is no model config"),
        ("model.safetensors", pickle.dumps({"a": 1}).decode("latin1"), "is damaged"),
    ],
)
def test_a_wrong_file_is_one_clear_error(model, tmp_path, monkeypatch, file, content, says):
    monkeypatch.chdir(tmp_path)
    align.save(model, tmp_path / "model")
    (tmp_path / "model" / file).write_text(content, encoding="latin1")
    if file == "model.safetensors":  # with the checksum of a thorough attacker
        about = json.loads((tmp_path / "model" / "model.json").read_text())
        del about["sha256"]
        (tmp_path / "model" / "model.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=says):
        align.load(tmp_path / "model")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("path", ["os.system", "subprocess.Popen", "torch.nn.Linear", "aligned.Evil"])
def test_a_class_outside_align_is_not_taken(path):
    with pytest.raises(ValueError, match=r"not align's; to trust it, pass allow="):
        build({"class_path": path, "init_args": {}})


@pytest.mark.parametrize(
    "path", ["align.files.fetch.download", "align.data.Shards", "align.commands.main", "align.nothing.X"]
)
def test_a_name_in_align_that_is_no_part_of_a_tower_is_not_called(path):
    with pytest.raises(ValueError, match=r"no preprocess, encoder or head|no class"):
        build({"class_path": path, "init_args": {}})


def test_a_missing_folder_and_one_that_is_no_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model folder"):
        align.load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="is no model folder"):
        align.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"hub cannot be reached|no model"):
        align.load("nobody/nothing-of-the-kind")


def test_what_cannot_be_described_says_why():
    class Forgetful(nn.Module):
        def __init__(self, depth: int):
            super().__init__()

    with pytest.raises(ValueError, match="does not keep its constructor argument 'depth'"):
        describe(Forgetful(3))
    odd = Linear(4, 2)
    odd.bias = torch.nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValueError, match="a checkpoint holds numbers, strings, lists and dicts"):
        describe(odd)


def test_a_run_without_that_checkpoint_says_which_there_are(tmp_path):
    (tmp_path / "checkpoints" / "step-00000040").mkdir(parents=True)
    (tmp_path / "checkpoints" / "step-00000040" / "model.json").write_text("{}")
    (tmp_path / "checkpoints" / "index.json").write_text('{"last": "step-00000040"}')
    with pytest.raises(ValueError, match=r"no checkpoint '7'; it has best, last and the steps \[40\]"):
        find_checkpoint(tmp_path, "7")


@pytest.mark.parametrize(
    ("completed", "known", "whole"),
    [("b", "b", True), ("a", "b", False), (None, "b", False), ("a", None, False), (None, None, False)],
)
def test_a_runs_model_counts_where_it_completes_the_checkpoint_that_is_meant(tmp_path, completed, known, whole):
    """completed: the weights that RUN/model names. known: those of the best checkpoint."""
    run, best = tmp_path / "run", tmp_path / "run/checkpoints/step-00000002"
    for folder, facts in ((run / "model", {"completes": completed}), (best, {"sha256": known})):
        folder.mkdir(parents=True)
        write_json(folder / "model.json", {name: x for name, x in facts.items() if x is not None})
    write_json(run / "checkpoints/index.json", {"last": best.name, "best": best.name})
    assert locate(run) == (run / "model" if whole else best)
    (run / "model/model.json").unlink()
    assert locate(run) == best
