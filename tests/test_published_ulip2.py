"""ULIP-2's point tower: from arrays to embeddings beside the original's vectors, and files that are refused."""

from __future__ import annotations

import argparse
import math
import subprocess
from fractions import Fraction
from pathlib import Path

import keys
import pytest
import torch
import torch.nn.functional as F
from faint import make_faint
from point_towers import (
    SCALE,
    ULIP2,
    farthest,
    fill_tower,
    make_clouds,
    make_small_clouds,
    save_ulip2,
    ulip2_shapes,
)
from proof import agree
from safetensors.torch import load_file

from align.encoders import PointBERT
from align.published import load_published, ulip2
from align.published.point_towers import flatten_singles, translate
from align.values import TermInfo

golden = Path(__file__).parent / "golden"


@pytest.fixture
def file(tmp_path):
    """``file(change, **sizes)`` is a published file, its tensors changed."""

    def write(change=dict, **sizes):
        return save_ulip2(change(fill_tower(ulip2_shapes(**{**ULIP2, **sizes}))), tmp_path / "ulip2.pt")

    return write


def refused(layout, path):
    with pytest.raises(ValueError, match=r"\A.*\Z") as caught:
        load_published(layout, str(path))
    return str(caught.value)


def test_the_originals_vectors(file):
    theirs = load_file(golden / "ulip2.safetensors")["points"]
    model = load_published("ulip2", str(file()))
    print(agree(model.embed(points=make_clouds())["points"], F.normalize(theirs, dim=-1)))
    preprocess = model.preprocess["points"]
    assert (preprocess.preset, preprocess.points, preprocess.swap) == ("ulip2", 10_000, False)


def test_every_epsilon_is_the_originals(file):
    theirs = load_file(golden / "ulip2.safetensors")["points.faint"]
    model, clouds = load_published("ulip2", str(file(make_faint))), make_small_clouds()
    model.preprocess["points"].points = len(clouds[0])
    agree(model.embed(points=clouds)["points"], F.normalize(theirs, dim=-1), 0.1)


def test_the_published_names_and_shapes():
    """Those of the whole file, made by the original's own code."""
    listed = {k.removeprefix("module."): x for k, x in keys.read_keys(golden / "ulip2.keys").items()}
    assert (listed.pop("pc_projection"), listed.pop("logit_scale")) == ((768, 1280), ())
    tensors = {name: torch.empty(shape, device="meta") for name, shape in listed.items()}
    sizes = ulip2.read_sizes(tensors, "file")
    encoder = PointBERT("ulip2", **sizes)
    ours = {ulip2.TOWER + translate(name, ulip2.NAMES): x.shape for name, x in encoder.state_dict().items()}
    assert ours == {name: x.shape for name, x in flatten_singles(tensors).items()}
    assert (encoder.heads, encoder.depth, encoder.groups, encoder.neighbours, encoder.width) == (6, 18, 512, 32, 768)
    assert sizes == {k: getattr(PointBERT(), k) for k in sizes}  # which are the defaults


def test_groups_are_those_of_plain_loops():
    """Centres as the kernel chooses them, and the nearest points."""
    torch.manual_seed(0)
    encoder = PointBERT("ulip2", 6, 64, 1, 1, 64, 8, groups=20, neighbours=4)
    x = torch.rand(1, 90, 6) - 0.5
    x[0, 5:30, :3] *= 0.03  # a crowd at the origin, which is left out
    centres, points = encoder.patches.group(x)
    assert torch.equal(centres[0], x[0, farthest(x[0, :, :3], 20, skip=True), :3])
    assert not torch.equal(centres[0], x[0, farthest(x[0, :, :3], 20), :3])
    for centre, group in zip(centres[0], points[0], strict=True):
        near = sorted(x[0], key=lambda row, centre=centre: float((row[:3] - centre).norm()))[:4]
        wanted = sorted(torch.cat([row[:3] - centre, row[3:]]).tolist() for row in near)
        assert sorted(group.tolist()) == wanted


def test_pooled_is_the_class_token_beside_the_maximum_of_the_tokens():
    torch.manual_seed(0)
    found = PointBERT(block_width=64, depth=1, heads=1, hidden=8, patch_width=8, groups=5, neighbours=3)(
        torch.rand(2, 30, 6)
    )
    assert torch.equal(found.tokens.amax(1), found.pooled)
    assert torch.equal(found.tokens[:, 3, :64], found.pooled[:, :64])


def test_the_clip_model_in_a_file_is_left_out_and_the_scale_is_read(file):
    clip = {"open_clip_model.visual.proj": torch.ones(4, 24), "open_clip_model.logit_scale": torch.tensor(4.6)}
    model = ulip2.load(str(file(lambda tensors: tensors | clip)))
    terms = [TermInfo(("points", other), "pairwise", pytest.approx(math.exp(SCALE))) for other in ("text", "image")]
    assert model.terms == terms


def test_files_that_do_not_fit_are_refused(file):
    for name in ("point_encoder.cls_pos", "point_encoder.encoder.first_conv.0.bias", "logit_scale"):
        line = refused("ulip2", file(lambda tensors, name=name: {k: x for k, x in tensors.items() if k != name}))
        assert f"does not fit the model: 1 missing: {name}" in line
    line = refused("ulip2", file(lambda tensors: tensors | {"point_encoder.odd": torch.ones(2)}))
    assert "does not fit the model: 1 unknown: point_encoder.odd" in line
    line = refused("ulip2", file(lambda tensors: tensors | {"pc_projection": torch.ones(3, 24)}))
    assert "1 tensors of another shape: pc_projection (24, 3) instead of (24, 256)" in line
    line = refused("ulip2", file(lambda tensors: tensors | {"logit_scale": torch.tensor(math.nan)}))
    assert "holds NaN or infinite weights, in logit_scale" in line
    assert "its names look like ulip2 (" in refused("openshape", file())


def test_the_release_of_xyz_alone_is_named(file):
    slip = {"token_embedding.weight": torch.ones(3, 2), "visual.cls_token": torch.ones(1, 1, 2)}
    line = refused("ulip2", file(lambda tensors: tensors | slip, channels=3, dim=512, depth=1))
    assert "holds ULIP's point tower in the space of SLIP's towers (token_embedding.weight)" in line


def test_no_class_but_a_namespace_is_read(file):
    path = file()
    content = torch.load(path, weights_only=False)
    assert isinstance(content["args"], argparse.Namespace)
    for odd in (Fraction(1, 2), subprocess.Popen, Path("x"), argparse.Namespace(inner=Path("x"))):
        torch.save(content | {"args": odd}, path)
        assert "is damaged or holds more than tensors (UnpicklingError: Unsupported global:" in refused("ulip2", path)


def test_code_in_a_file_is_not_run(file, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "run",))

    path = file()
    torch.save(torch.load(path, weights_only=False) | {"args": Bomb()}, path)
    assert "is damaged or holds more than tensors" in refused("ulip2", path)
    assert not (tmp_path / "run").exists()
