"""EBind's heads over small models: goldens of its package, a plain recomputation, and models that do not fit."""

import json
from pathlib import Path

import numpy as np
import proof
import published_sources
import pytest
import torch
from faint import make_faint
from golden import ebind as golden
from keys import read_keys
from safetensors.torch import load_file, save_file

import align
from align.commands import main
from align.heads import Identity
from align.model import JointModel, Tower
from align.published import ebind, load_published
from align.values import Origin

GOLDEN = Path(golden.__file__).parent
HEADS = ("audio", "points")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ebind")
    files = golden.write_files(golden.filled(golden.read_notes(), 0), folder)
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-sa-4.0\n---\n")
    return files | {"open_clip": str(published_sources.make_open_clip(folder / "clip"))}


@pytest.fixture(scope="module")
def others(sources):
    """LAYOUT:SOURCE -> model, read one time. A test gives ``fresh`` ones to the loader."""
    return {f"{k}:{sources[k]}": load_published(k, sources[k]) for k in ("open_clip", "imagebind", "uni3d")}


def fresh(models):
    """Return the models with other towers around the same encoders."""
    made = {}
    for name, model in models.items():
        towers = {k: Tower(t.preprocess, t.encoder, Identity) for k, t in model.towers.items()}
        made[name] = JointModel(towers, model.dim, model.share, model.normalize)
        made[name].terms = list(model.terms)
    return made


@pytest.fixture
def model(sources, others):
    made = ebind.load(sources["ebind"], fresh(others)).eval()
    yield made
    for tower in made.towers.values():  # the encoders are the module's
        if tower.encoder.origin is not None:
            tower.encoder.origin = tower.encoder.origin._replace(licence="unstated")


def test_vectors_are_those_of_the_package(model):
    wanted = load_file(GOLDEN / "ebind.safetensors")
    with torch.no_grad():
        for name, ours in golden.encode(model, 0).items():
            print(f"\nebind {name}: {proof.agree(ours, wanted[name])}")


@torch.no_grad()
def test_every_epsilon_is_the_packages(others, tmp_path):
    made = {part: make_faint(x) for part, x in golden.filled(golden.read_notes(), 0).items()}
    files, wanted = golden.write_files(made, tmp_path), load_file(GOLDEN / "ebind.safetensors")
    clip = {k: x for k, x in fresh(others).items() if k.startswith("open_clip")}
    encoders = {f"{k}:{files[k]}": load_published(k, files[k]) for k in ("imagebind", "uni3d")}
    for name, ours in golden.encode(ebind.load(files["ebind"], clip | encoders).eval(), 0).items():
        proof.agree(ours, wanted[f"{name}.faint"], 0.1)


def test_a_head_recomputed_by_hand(model, sources):
    heads = load_file(sources["ebind"])
    golden.encode(model, 0)  # which sets the groups
    for name, x in golden.inputs(0).items():
        encoder = model.towers[name].encoder
        with torch.no_grad():
            rows = encoder(x).pooled if name == "points" else torch.stack([encoder(x[:, i]).pooled for i in range(3)])
        rows = rows.numpy() if name == "points" else 20 * rows.numpy().mean(0)  # clips of unit length, their mean as is
        w1, b1, w2, b2 = (
            heads[f"projectors.{name}.net.{i}.{part}"].numpy() for i in (0, 2) for part in ("weight", "bias")
        )
        by_hand = []
        for row in rows:
            inner = np.maximum(w1 @ row + b1, 0)
            out = w2 @ inner + b2
            by_hand.append(out / np.sqrt((out**2).sum()))
        with torch.no_grad():
            ours = golden.encode(model, 0)[name].numpy()
        np.testing.assert_allclose(ours, np.stack(by_hand), atol=2e-6)


def test_the_published_file_has_these_names_and_numbers():
    shapes = read_keys(GOLDEN / "ebind.keys")
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 8_394_752
    with torch.device("meta"):
        tensors = {name: torch.empty(shape) for name, shape in shapes.items()}
    assert ebind.fits(tensors)
    layers = ebind._split(tensors, "x")
    assert {name: tuple(x.shape) for name, x in layers["audio"].items()} == {
        "net.0.weight": (2048, 1024),
        "net.0.bias": (2048,),
        "net.2.weight": (1024, 2048),
        "net.2.bias": (1024,),
    }


def test_the_command_puts_heads_over_their_models(sources, tmp_path, capsys):
    beside = ",".join(f"{k}:{sources[k]}" for k in ("open_clip", "imagebind", "uni3d"))
    folder = str(Path(sources["ebind"]).parent)  # a folder is a source, too
    out = str(tmp_path / "out")
    assert main(["import", "ebind", folder, out, "--beside", beside, "--video", "mean", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert list(about["towers"]) == ["image", "text", "audio", "points", "video"]
    assert [term["modalities"] for term in about["terms"]] == [["image", "text"], ["video", "text"]]
    assert about["parts"]["points.encoder"]["licence"] == "unstated, its head cc-by-nc-sa-4.0"
    model = align.load(tmp_path / "out")
    assert (model.dim, model.normalize) == (golden.SPACE, True)
    with torch.no_grad():
        ours, wanted = golden.encode(model, 0), load_file(GOLDEN / "ebind.safetensors")
    assert all(float((ours[name] - wanted[name]).abs().max()) < proof.VALUE for name in HEADS)
    assert main(["import", "ebind", folder, str(tmp_path / "none")]) == 1
    line = capsys.readouterr().err
    assert "--beside open_clip:PE-Core-L-14-336/meta,imagebind:imagebind_huge.pth,uni3d:modelzoo/uni3d-g" in line
    assert not (tmp_path / "none").exists()


def test_models_that_are_missing_or_do_not_fit(sources, others, tmp_path):
    def refused(models, said, source=sources["ebind"]):
        with pytest.raises(ValueError, match=said) as error:
            ebind.load(source, models)
        assert "\n" not in str(error.value)

    clip, bind, uni = fresh(others).items()
    refused(dict([clip, bind]), r"is heads over other models.*missing: uni3d:modelzoo/uni3d-g-no-lvis/model.pt")
    refused(dict([bind, uni]), "missing: open_clip:PE-Core-L-14-336/meta")
    refused({}, "missing: open_clip:.*, imagebind:.*, uni3d:.*")
    refused(dict([clip, bind, uni, ("open_clip:b", clip[1])]), "takes one of open_clip:.* and open_clip:b")
    only = JointModel({"image": clip[1].towers["image"]}, clip[1].dim)
    refused(dict([clip, bind, uni, ("timm:x", only)]), "has no place for timm:x")
    heads = load_file(sources["ebind"])
    audio = {k: x for k, x in heads.items() if "audio" in k}
    save_file(audio, tmp_path / "audio.safetensors")
    refused(dict([clip, bind, uni]), "has no place for uni3d:", str(tmp_path / "audio.safetensors"))
    some = ebind.load(str(tmp_path / "audio.safetensors"), dict([clip, bind]))
    assert some.modalities == ["image", "text", "audio"]
    wide = {name: x.repeat(1, 2) if name.endswith("points.net.0.weight") else x for name, x in heads.items()}
    for change, said in (
        (wide, "over uni3d:.*: projectors.points.net.0.weight reads 40 numbers, not the encoder's 20"),
        (
            heads | {"projectors.audio.net.2.weight": torch.ones(9, 40)},
            "net.2.weight gives 9 numbers, not the 16 of pictures",
        ),
        (heads | {"projectors.audio.odd": torch.ones(1)}, "1 unknown: projectors.audio.odd"),
        (audio | {"projectors.points.net.0.bias": torch.ones(1)}, "3 missing: projectors.points.net.0.weight"),
        (
            heads | {"projectors.audio.net.0.bias": torch.ones(9)},
            "1 tensors of another shape: projectors.audio.net.0.bias",
        ),
        (heads | {"projectors.audio.net.0.bias": torch.ones(1, 1)}, "1 tensors of another shape: projectors.audio"),
    ):
        save_file(change, tmp_path / "odd.safetensors")
        refused(fresh(others), said, str(tmp_path / "odd.safetensors"))


def test_another_size_of_uni3d_and_another_space_are_noticed(sources, others, monkeypatch):
    models = fresh(others)
    encoder = models[f"uni3d:{sources['uni3d']}"].towers["points"].encoder
    monkeypatch.setattr(encoder, "kind", "eva02")
    with pytest.raises(ValueError, match="the head reads vectors of Uni3D-g, and this is another size"):
        ebind.load(sources["ebind"], models)
    monkeypatch.undo()
    monkeypatch.setattr(encoder, "origin", Origin("uni3d-g/model.pt", "aa1f163b" + "0" * 56, "MIT"))
    with pytest.warns(UserWarning, match="trained on uni3d-g-no-lvis; these points are uni3d-g's"):
        ebind.load(sources["ebind"], fresh(others))
    image = models[f"open_clip:{sources['open_clip']}"].towers["image"].encoder
    monkeypatch.undo()
    monkeypatch.setattr(image, "width", 1024)
    with pytest.warns(UserWarning, match=r"trained on open_clip:PE-Core-L-14-336/meta; is open_clip:.* that\?"):
        ebind._warn_of_other_spaces({"image": "open_clip:b"}, {"image": models[next(iter(models))].towers["image"]})
