"""OpenShape's point towers: from arrays to embeddings beside the original's vectors, with a CLIP model, and refused."""

from __future__ import annotations

import json
import math
import warnings
from functools import partial
from pathlib import Path

import keys
import numpy as np
import open_clip_models
import pytest
import torch
import torch.nn.functional as F
import trimesh
from faint import make_faint
from point_towers import (
    DEMO,
    DEMO_BARE,
    OPENSHAPE,
    PROJECTED,
    SCALE,
    fill_tower,
    make_clouds,
    make_small_clouds,
    openshape_shapes,
    save_openshape,
)
from proof import agree
from safetensors.torch import load_file

import align
from align.checkpoint import save
from align.commands import main
from align.encoders import PointBERT
from align.published import load_published, openshape
from align.published.point_towers import flatten_singles, translate
from align.values import TermInfo

golden = Path(__file__).parent / "golden"
TERMS = [TermInfo(("points", other), "pairwise", pytest.approx(math.exp(SCALE))) for other in ("text", "image")]


@pytest.fixture(scope="module")
def theirs():
    return load_file(golden / "openshape.safetensors")


@pytest.fixture
def file(tmp_path):
    """``file(kind, **sizes)`` is a published file, its tensors changed by ``change``."""

    def write(kind, change=dict, **sizes):
        tensors = fill_tower(openshape_shapes(**{**OPENSHAPE[kind], **sizes}))
        return save_openshape(change(tensors), kind, tmp_path / f"{kind}.pt")

    return write


@pytest.mark.parametrize("kind", OPENSHAPE)
def test_the_originals_vectors(kind, theirs, file, tmp_path):
    model = load_published("openshape", str(file(kind)))
    wanted = F.normalize(theirs[kind], dim=-1)
    print(agree(model.embed(points=make_clouds())["points"], wanted))
    assert openshape.load(str(tmp_path / f"{kind}.pt")).terms == (TERMS if kind == PROJECTED else [])
    preprocess, encoder = model.preprocess["points"], model.towers["points"].encoder
    assert (preprocess.preset, preprocess.points, preprocess.swap) == ("openshape", 10_000, kind == PROJECTED)
    found = encoder.groups, encoder.radius, encoder.neighbours
    assert found == ((384, 0.2, 64) if kind == PROJECTED else (64, 0.4, 256))
    if kind != DEMO:
        return
    save(model, tmp_path / "model")
    again = align.load(tmp_path / "model")
    assert torch.equal(again.embed(points=make_clouds()[:1])["points"], model.embed(points=make_clouds()[:1])["points"])
    (part,) = json.loads((tmp_path / "model" / "model.json").read_text())["parts"].values()
    assert (part["licence"], part["changed"], len(part["sha256"])) == ("unstated", False, 64)


@pytest.mark.parametrize("kind", OPENSHAPE)
def test_every_epsilon_is_the_originals(kind, theirs, file):
    model = load_published("openshape", str(file(kind, make_faint)))
    clouds = make_small_clouds()
    model.preprocess["points"].points = len(clouds[0])
    wanted = F.normalize(theirs[f"{kind}.faint"], dim=-1)
    agree(model.embed(points=clouds)["points"], wanted, 0.5)  # a point at the edge of a ball moves one by 3.3e-5


@pytest.mark.parametrize("kind", OPENSHAPE)
def test_the_published_names_and_shapes(kind):
    """Those of the whole files, made by the original's own code."""
    prefix = {PROJECTED: "module.ppat.", DEMO: "pc_encoder.ppat.", DEMO_BARE: "pc_encoder."}[kind]
    listed = {k: torch.empty(x, device="meta") for k, x in keys.read_keys(golden / "openshape.keys").items()}
    tensors = {k: x for k, x in listed.items() if k.startswith(prefix)}
    if kind == DEMO_BARE:
        tensors = {k: x for k, x in listed.items() if k.startswith(prefix) and "ppat" not in k and "proj." not in k}
    sizes = openshape.read_sizes(tensors, prefix, kind != PROJECTED, "file")
    encoder = PointBERT("openshape", **sizes)
    ours = {prefix + translate(name, openshape.NAMES): x.shape for name, x in encoder.state_dict().items()}
    assert ours == {name: x.shape for name, x in flatten_singles(tensors).items()}
    assert (sizes["heads"], sizes["groups"]) == (8, 384 if kind == PROJECTED else 64)


def test_the_order_of_points_counts():
    """A ball takes the first of its points, which a loop over the cloud finds."""
    torch.manual_seed(0)
    encoder = PointBERT("openshape", 6, 64, 1, 1, 64, 8, groups=5, neighbours=7, radius=0.4)
    x = torch.rand(1, 90, 6)
    centres, points = encoder.patches.group(x)
    for centre, group in zip(centres[0], points[0], strict=True):
        inside = [row for row in x[0] if (row[:3] - centre).norm() < 0.4][:7]
        wanted = [torch.cat([row[:3] - centre, row]) for row in inside]
        assert torch.equal(group, torch.stack(wanted + wanted[:1] * (7 - len(wanted))))
    assert torch.equal(centres[0, 0], x[0, 0, :3])
    assert (encoder(x).pooled - encoder(x.flip(1)).pooled).abs().max() > 1e-3


def test_a_learned_scale_is_read_where_a_demos_file_has_one(file):
    path = file(DEMO)
    torch.save(torch.load(path) | {"logit_scale": torch.tensor(SCALE), "text_encoder.weight": torch.ones(2)}, path)
    assert openshape.load(str(path)).terms == TERMS
    for odd in ({"logit_scale": SCALE}, SCALE, "x"):
        torch.save(
            {"state_dict": torch.load(file(PROJECTED), weights_only=False)["state_dict"], "logit_scale": odd}, path
        )
        with pytest.raises(ValueError, match=r"holds no tensor logit_scale, but a (float|str)"):
            openshape.load(str(path))


def test_files_that_do_not_fit_are_refused(file):
    def refused(path):
        with pytest.raises(ValueError, match=r"\A.*\Z") as caught:
            load_published("openshape", str(path))
        return str(caught.value)

    def drop(name, tensors):
        return {k: x for k, x in tensors.items() if k != name}

    for name in (
        "ppat.cls_token",
        "ppat.sa.mlp_convs.2.bias",
        "proj.bias",
        "ppat.transformer.layers.1.1.fn.net.3.bias",
    ):
        assert f"does not fit the model: 1 missing: {name}" in refused(file(PROJECTED, partial(drop, name)))
    line = refused(file(PROJECTED, lambda tensors: tensors | {"ppat.odd": torch.ones(2)}))
    assert "does not fit the model: 1 unknown: ppat.odd" in line
    line = refused(file(PROJECTED, lambda tensors: tensors | {"proj.weight": torch.ones(3, 5)}))
    assert "1 tensors of another shape: proj.weight (3, 5) instead of (24, 128)" in line
    line = refused(file(DEMO, lambda tensors: tensors | {"ppat.cls_token": torch.ones(100)}))
    assert "blocks 100 wide, which is no number of heads of 64" in line
    line = refused(file(DEMO, lambda tensors: tensors | {"ppat.sa.mlp_convs.0.weight": torch.ones(3, 5)}))
    assert "mlp_convs.0.weight (3, 5) instead of 4 dimensions" in line
    path = file(PROJECTED)
    torch.save(torch.load(path) | {"text_proj": {"weight": torch.ones(2)}}, path)
    assert "holds text_proj: its space is not that of a CLIP model" in refused(path)


def test_batch_normalisation_warns_where_it_is_trained(file):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = load_published("openshape", str(file(DEMO, depth=1)))
    with pytest.warns(UserWarning, match="has batch normalisation; its statistics stay as they are"):
        model.train()
    encoder = model.towers["points"].encoder
    assert encoder.training
    assert not any(norm.training for norm in encoder.patches.norms)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A small CLIP model of 64 dimensions, saved as open_clip does."""
    folder = tmp_path_factory.mktemp("clip")
    open_clip_models.write_kinds(folder)
    return open_clip_models.save_folder(open_clip_models.make("tiny-vit"), "tiny-vit", folder / "saved")


def test_with_the_clip_model_of_its_space_it_labels_meshes(file, clip, tmp_path, capsys):
    source = file(PROJECTED, dim=64, depth=1)
    place = tmp_path / "joined"
    assert main(["import", "openshape", str(source), str(place), "--beside", f"open_clip:{clip}"]) == 0
    assert "points with text: scale 24.53" in capsys.readouterr().out
    model = align.load(place)
    assert model.modalities == ["points", "image", "text"]
    assert [set(term.modalities) for term in model.terms] == [
        {"points", "text"},
        {"points", "image"},
        {"image", "text"},
    ]
    trimesh.creation.box().export(tmp_path / "box.off")
    trimesh.creation.icosphere(2).export(tmp_path / "ball.off")
    files, names = [str(tmp_path / name) for name in ("box.off", "ball.off")], ["a box", "a ball", "rain"]
    command = ["zeroshot", str(place), *files, "--classes", ",".join(names), "--template", "{}", "--json"]
    assert main(command) == 0
    rows = model.embed(points=files, text=names)
    wanted = (math.exp(SCALE) * rows["points"] @ rows["text"].T).softmax(1)
    printed = json.loads(capsys.readouterr().out)["files"]
    for row, p in zip(printed, wanted, strict=True):
        np.testing.assert_allclose([row["probabilities"][name] for name in names], p, atol=1e-5)


def test_a_clip_model_of_another_dim_is_refused(file, clip):
    with pytest.raises(ValueError, match="has vectors of 64 numbers, the model beside it of 24"):
        load_published("openshape", str(file(DEMO)), beside=[f"open_clip:{clip}"])
