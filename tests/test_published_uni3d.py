"""Uni3D from files to embeddings: goldens of the reference on any weights, in each layout of keys."""

from pathlib import Path

import numpy as np
import proof
import published_sources
import pytest
import torch
from faint import make_faint
from golden import uni3d as golden
from keys import read_keys
from safetensors.torch import load_file

import align
from align.commands import main
from align.encoders import Uni3D
from align.published import load_published, uni3d
from align.published.uni3d import LICENCES, PICTURES, fits, published_name, read_sizes, reshape
from align.values import TermInfo

GOLDEN = Path(golden.__file__).parent
KINDS = ("eva", "eva02-norm", "eva02")
HEADS = {"ti": 3, "s": 6, "b": 12, "l": 16, "g": 16}  # of the trunks in timm


@pytest.fixture(scope="module")
def wanted():
    return load_file(GOLDEN / "uni3d.safetensors")


def write(kind, path, seed=0, inside="module", before="", change=dict):
    """Write a checkpoint as the reference does, DeepSpeed's other entries beside it, and return its source."""
    tensors = {before + k: x for k, x in change(golden.filled(golden.shapes_of(kind), seed)).items()}
    more = {"ds_version": "0.10.3", "optimizer": None, "epoch": 200, "best_acc1": 55.3, "ds_config": {"fp16": [1]}}
    torch.save({inside: tensors, **more} if inside else tensors, path)
    return str(path)


def load(source):
    model = load_published("uni3d", source)
    encoder = model.towers["points"].encoder
    encoder.groups, encoder.neighbours = golden.GROUPS, golden.NEIGHBOURS
    return model, encoder


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_are_those_of_the_reference(kind, wanted, tmp_path):
    source = write(kind, tmp_path / "model.pt")
    _, encoder = load(source)
    with torch.no_grad():
        print(f"\nuni3d {kind}: {proof.agree(encoder(golden.clouds(0)).pooled, wanted[kind])}")
    assert (encoder.kind, encoder.heads, encoder.depth, encoder.origin.licence) == (kind, 2, 2, "unstated")
    assert {x.dtype for x in encoder.parameters()} == {torch.float32}
    scale = float(torch.tensor(golden.SCALE).half().exp())
    terms = uni3d.load(source).terms  # they stay where the other towers join this one
    assert [term.modalities for term in terms] == [("points", "text"), ("points", "image")]
    assert all(term.scale == pytest.approx(scale, rel=1e-3) for term in terms)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_every_epsilon_is_the_references(kind, wanted, tmp_path):
    _, encoder = load(write(kind, tmp_path / "model.pt", change=make_faint))
    proof.agree(encoder(golden.clouds(0)).pooled, wanted[f"{kind}.faint"], 0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_prepared_as_the_reference_does(kind, wanted, tmp_path):
    model, _ = load(write(kind, tmp_path / "model.pt"))
    for i, cloud in enumerate(golden.read_clouds(0)):
        np.save(tmp_path / f"{i}.npy", np.concatenate([cloud[:, :3], cloud[:, 3:] / 255], 1).astype(np.float32))
    model.preprocess["points"].points = 150  # as many as the file holds
    ours = model.embed(points=[tmp_path / f"{i}.npy" for i in range(3)])["points"]
    theirs = torch.nn.functional.normalize(wanted[f"{kind}.files"], dim=-1)
    print(f"\nuni3d {kind}, files: {proof.agree(ours, theirs)}")


def test_every_tensor_of_a_tower_counts(tmp_path):
    _, encoder = load(write("eva02-norm", tmp_path / "model.pt"))
    x = golden.clouds(0)[:1, 100:180].double()
    with torch.no_grad():
        assert not proof.unmoved(encoder.double(), lambda: encoder(x).pooled, scale=0.1)


def test_the_layouts_of_keys_are_one_model(tmp_path):
    files = [
        write("eva02", tmp_path / "a.pt"),
        write("eva02", tmp_path / "b.pt", before="module."),
        write("eva02", tmp_path / "c.pt", inside="state_dict", before="module."),
        write("eva02", tmp_path / "d.pt", inside=""),
    ]
    states = [load_published("uni3d", file).state_dict() for file in files]
    assert all(torch.equal(x, state[name]) for state in states for name, x in states[0].items())


@pytest.mark.parametrize("size", HEADS)
def test_the_names_of_the_published_files_are_those_of_the_encoder(size):
    with torch.device("meta"):
        tensors = {name: torch.empty(shape) for name, shape in read_keys(GOLDEN / f"uni3d-{size}.keys").items()}
        assert fits(tensors)
        sizes = read_sizes(tensors, "x")
        encoder = Uni3D(**sizes)
    assert (sizes["heads"], encoder.groups, encoder.neighbours) == (HEADS[size], 512, 64)
    del tensors["logit_scale"]
    wanted = {published_name(k): x.shape for k, x in encoder.state_dict().items()}
    assert {k: x.shape for k, x in reshape(tensors).items()} == wanted
    left_out = {k for k in tensors if k.removeprefix("point_encoder.").startswith(PICTURES)}
    assert len(left_out) == (4 if size in ("ti", "s") else 6)


def test_names_and_sizes_that_do_not_fit_are_said(tmp_path):
    whole = golden.filled(golden.shapes_of("eva"), 0)
    fc2 = "point_encoder.visual.blocks.0.mlp.fc2.weight"
    changes = {
        "1 missing: logit_scale": {"logit_scale": None},
        f"1 missing: {fc2}": {fc2: None},
        "1 unknown: point_encoder.odd": {"point_encoder.odd": torch.ones(2)},
        "1 missing: point_encoder.cls_token": {"point_encoder.cls_token": None},
        "1 tensors of another shape: .*trans2embed.weight \\(48,\\)": {
            "point_encoder.trans2embed.weight": torch.ones(48)
        },
        "tensors of another shape: .*mlp.fc1.weight \\(\\)": {
            "point_encoder.visual.blocks.0.mlp.fc1.weight": torch.tensor(1.0)
        },
        "is 170 wide, which is no number of heads of 88": {"point_encoder.trans2embed.weight": torch.ones(48, 170)},
    }
    for said, change in changes.items():
        torch.save({k: x for k, x in (whole | change).items() if x is not None}, tmp_path / "model.pt")
        with pytest.raises(ValueError, match=said):
            load_published("uni3d", str(tmp_path / "model.pt"))
    assert set(LICENCES.values()) == {"MIT"}


def test_a_cloud_smaller_than_the_groups_and_one_without_colours(tmp_path):
    _, encoder = load(write("eva02", tmp_path / "model.pt"))
    assert encoder(golden.clouds(0)[:, :5]).tokens.shape == (3, 5, golden.WIDTH)
    with pytest.raises(ValueError, match=r"takes \(n, P, 6\), P >= 1, got \(3, 200, 3\)"):
        encoder(golden.clouds(0)[..., :3])


def test_classes_of_meshes_beside_the_clip_model(tmp_path, capsys):
    import trimesh

    for name, mesh in {"ball": trimesh.creation.icosphere(), "box": trimesh.creation.box()}.items():
        mesh.export(tmp_path / f"{name}.obj")
    clip = published_sources.make_open_clip(tmp_path / "clip")
    shapes = golden.shapes_of("eva02") | {"point_encoder.trans2embed.weight": [16, 128]}
    shapes["point_encoder.trans2embed.bias"] = [16]
    torch.save({"module": golden.filled(shapes, 0)}, tmp_path / "model.pt")
    beside = f"open_clip:{clip}"
    out = tmp_path / "model"
    assert main(["import", "uni3d", str(tmp_path / "model.pt"), str(out), "--beside", beside]) == 0
    assert "points with text: scale 100" in capsys.readouterr().out
    model = align.load(out)
    assert set(model.modalities) == {"points", "image", "text"}
    assert TermInfo(("points", "text"), "pairwise", model.terms[0].scale) in model.terms
    meshes = [str(tmp_path / "ball.obj"), str(tmp_path / "box.obj")]
    assert main(["zeroshot", str(out), "--classes", "a ball,a box", "--template", "{}", *meshes]) == 0
    assert "a ball" in capsys.readouterr().out
