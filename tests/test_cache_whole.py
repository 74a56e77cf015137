"""Whole towers of heads on embeddings, licences beside heads, evaluators on columns, and caches that are odd."""

import json
import shutil

import pytest
import torch
from test_cache_training import base, columns, inputs, modalities, options
from test_columns import write_shards

import align
from align import JointModel, Objective, Term, Tower
from align.checkpoint import find_checkpoint, list_files, read_parts
from align.commands import main
from align.embedding import assemble, write_cache
from align.encoders import Precomputed, Vector
from align.files import read_json
from align.heads import Chain
from align.lit import AlignData, fit
from align.lit.sources import Source
from align.lit.whole import write_whole
from align.losses import InfoNCE
from align.optim import Optim
from align.preprocess import Array
from align.values import Origin

ORIGIN = Origin("timm:net", "a" * 64, "cc-by-nc-4.0")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    shards = write_shards(folder / "shards")
    towers = {m: Tower(Array((6,)), None if m == "audio" else Vector(6, 8, hidden=8, depth=2)) for m in modalities}
    shared = JointModel(towers, 4, share={"audio": "image"}).eval()
    shared.towers["image"].mark_origin(ORIGIN)
    for name, model in (("base", base()), ("shared", shared)):
        align.save(model, folder / name)
        write = {"source": str(folder / name), "dtype": "float32", "max_bad": 1}
        write_cache(align.load(folder / name), shards, folder / "cache", name=name, **write)
        write_cache(align.load(folder / name), shards, folder / "cache", name=f"{name}-space", features=False, **write)
    return folder, shards


def train(source, run, width, val=None, steps=2, batch=12, **more):
    torch.manual_seed(5)
    model = JointModel({m: Tower(encoder=Precomputed(width)) for m in modalities}, 4)
    objective = Objective({"all": Term(InfoNCE(), "all")}, dim=4, batch=batch, modalities=list(modalities))
    data = AlignData(source, val, batch=batch, workers=0, max_bad=1)
    trainer = {**options, "max_steps": steps}
    fit(model, objective, data, run, optim=Optim(lr=1e-2, warmup=0), trainer=trainer, **more)
    return align.load(run, checkpoint="last")


def test_a_head_on_embeddings_stands_behind_the_head_that_made_them(world):
    folder, _ = world
    train(Source(columns=columns(folder, "base-space")), folder / "space", 4)
    heads, whole = align.load(folder / "space/checkpoints/step-00000002"), align.load(folder / "space")
    first = align.load(folder / "base").embed(**inputs())
    wanted, found = heads.embed(**{m: [*x] for m, x in first.items()}), whole.embed(**inputs())
    for m in modalities:
        assert isinstance(whole.towers[m].head, Chain)
        assert torch.allclose(found[m], wanted[m], atol=1e-6)
    with pytest.raises(ValueError, match=r"fitted on the .* tower of .* with weights .* another tower's features"):
        assemble(heads, {"changed": base(4)})


def test_a_head_on_the_tokens_of_embeddings_stays_on_the_cache():
    model = JointModel({"text": Tower(encoder=Precomputed(4, tokens=True))}, 4)
    tower = model.towers["text"]
    tower.fitted_on = align.values.FeatureOrigin("m", "", "text", "w", "p", {"kind": "embedding"})
    with pytest.raises(ValueError, match="no head of the model"):
        assemble(model)


@pytest.mark.parametrize("name", ["shared", "shared-space"])
def test_the_origin_comes_with_heads_and_with_whole_towers(world, name):
    """The tower that borrows the encoder has its licence too where it stands alone."""
    folder, _ = world
    width = 8 if name == "shared" else 4
    train(Source(columns=columns(folder, name)), folder / name / "run", width)
    parts = read_json(folder / "cache/cache.json")["sets"][name]["parts"]
    assert {part: found["licence"] for part, found in parts.items()} == dict.fromkeys(
        ["audio.encoder", "image.encoder"], ORIGIN.licence
    )
    heads = folder / name / "run/checkpoints/step-00000002"
    assert read_json(heads / "model.json")["parts"] == parts == read_parts(align.load(heads))
    whole = align.load(folder / name / "run")
    lender = next(m for m in ("image", "audio") if m not in whole.share)
    assert read_parts(whole) == {f"{lender}.encoder": ORIGIN._asdict()}
    assert whole.towers["image"].encoder is whole.towers["audio"].encoder


def test_evaluators_run_on_columns_with_and_without_raw_shards(world):
    folder, shards = world
    found = []
    for i, urls in enumerate((None, shards)):
        val = Source(urls=urls, columns=columns(folder, "base"))
        run = folder / f"measured{i}"
        train(Source(columns=columns(folder, "base")), run, 8, val, validate={"with": ["retrieval"]})
        rows = (run / "metrics.csv").read_text().splitlines()
        names, last = rows[0].split(","), rows[-1].split(",")
        found.append({n: v for n, v in zip(names, last, strict=True) if n.startswith("val/retrieval/")})
    assert found[0] == found[1]
    assert float(found[0]["val/retrieval/image_to_text/recall@10"]) > 0
    with pytest.raises(ValueError, match="'text' reads cached rows, so it cannot embed names of classes"):
        train(Source(columns=columns(folder, "base")), folder / "zero", 8, val, validate={"with": ["zeroshot"]})
    with pytest.raises(ValueError, match=r"validate needs shards or columns in data.val; it has none"):
        train(Source(columns=columns(folder, "base")), folder / "zero", 8, validate={"with": ["retrieval"]})


def damage(content, what):
    column = content["sets"]["base"]["columns"]["text"]
    if what == "twice":
        content["shards"][0]["name"] = content["shards"][1]["name"]
    else:
        column.update(what)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("twice", "lists the shard train-000001.tar twice"),
        ({"kind": "feature"}, "the column base:text has kind 'feature'"),
        ({"width": "8"}, "has width '8'"),
        ({"weights": "x"}, "has weights 'x'"),
        ({"preprocess": None}, "has preprocess None"),
        ({"dtype": "float64"}, "has dtype 'float64'"),
        ({"tokens": 1}, "has tokens 1"),
        ({"unit": "yes"}, "has unit 'yes'"),
    ],
)
def test_a_damaged_cache_json_is_said(world, tmp_path, what, says):
    folder, _ = world
    content = read_json(folder / "cache/cache.json")
    damage(content, what)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/cache.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=says) as error:
        align.data.open_cache(f"{tmp_path}/cache/base:text")
    assert str(tmp_path / "cache/cache.json") in str(error.value)


def test_a_set_that_is_being_written_is_said(world, tmp_path):
    folder, _ = world
    shutil.copytree(folder / "cache", tmp_path / "cache", ignore=shutil.ignore_patterns("*.tar"))
    (tmp_path / "cache/.new.work").mkdir()
    with pytest.raises(ValueError, match="no set 'new'; it is being written, or was interrupted"):
        align.data.open_cache(f"{tmp_path}/cache/new:text")
    (tmp_path / "cache/cache.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no cache.json yet: its set 'new' is being written"):
        align.data.open_cache(f"{tmp_path}/cache/new:text")


def test_the_heads_are_kept_whatever_is_wrong_with_the_encoders(world, monkeypatch, capsys):
    def fail(*_):
        raise ModuleNotFoundError("No module named 'heavy'")

    monkeypatch.setattr("align.lit.whole.complete", fail)
    folder, _ = world
    train(Source(columns=columns(folder, "base")), folder / "kept", 8)
    assert "holds heads alone, as their encoders are not there (No module named 'heavy')" in capsys.readouterr().err
    assert isinstance(align.load(folder / "kept").towers["text"].encoder, Precomputed)


@pytest.mark.parametrize("step", ["write_model", "write_json"])
def test_files_of_a_whole_model_that_failed_half_way_do_not_stay_beside_the_heads(world, monkeypatch, tmp_path, step):
    folder, _ = world
    if not (folder / "half").exists():
        train(Source(columns=columns(folder, "base")), folder / "half", 8)
    best = find_checkpoint(folder / "half")

    def fail(*_):
        (tmp_path / "text.vocabulary.json").write_text("{}")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"align.lit.whole.{step}", fail)
    write_whole(best, tmp_path, folder / "half")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(list_files(best))
    assert all((tmp_path / name).read_bytes() == (best / name).read_bytes() for name in list_files(best))


def test_assemble_keeps_the_results_of_a_binding(world, capsys):
    folder, _ = world
    shutil.copytree(folder / "base", folder / "bound")
    (folder / "bound/bind.json").write_text("{}")
    assert main(["assemble", str(folder / "base"), "--out", str(folder / "bound")]) == 1
    assert "bound holds bind.json beside a model, which would be lost" in capsys.readouterr().err
