"""Fuse: a plain loop over the modalities that are there, modality dropout, and the layout of holes and several rows."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from align.heads import Fuse
from align.heads.fuse import lay_out
from align.values import Embeddings, Features, Rows

M, W, D = 3, 4, 5


def make(**options):
    torch.manual_seed(0)
    return Fuse(M * W, D, modalities=M, **options).double()


def rows(n=6):
    x = torch.randn(n, M, W, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for i in range(n):  # every subset of three but the empty one
        for m in range(M):
            if not (i + 1) >> m & 1:
                x[i, m] = 0
    return x


def linear(layer, x):
    return layer.weight @ x + layer.bias


@torch.no_grad()
def loop(head, row, heads):
    """One row (M, W) by the equations."""
    there = [m for m in range(M) if bool((row[m] != 0).any())]
    t = [linear(head.read, row[m]) + head.slot[m] for m in there]
    query = head.query + sum(t) / len(t)
    size, out = W // heads, []
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        keys, values = zip(*(linear(head.key_value, x).split(W) for x in t), strict=True)
        scores = [float(query[part] @ k[part]) / math.sqrt(size) for k in keys]
        total = sum(math.exp(s) for s in scores)
        out.append(sum(math.exp(s) / total * v[part] for s, v in zip(scores, values, strict=True)))
    f = sum(row[m] for m in there) / len(there) + torch.cat(out)
    norm, first, _, last = head.mix
    hidden = (f - f.mean()) / torch.sqrt(f.var(unbiased=False) + norm.eps) * norm.weight + norm.bias
    return head.project.weight @ (f + linear(last, F.gelu(linear(first, hidden))))


@pytest.mark.parametrize("heads", [1, 2])
def test_rows_are_those_of_a_plain_loop(heads):
    head = make(heads=heads).eval()
    x = rows()
    found = head(Features(x.flatten(1))).detach()
    for i in range(len(x)):
        torch.testing.assert_close(found[i], loop(head, x[i], heads))


def test_an_absent_modality_has_no_share_and_no_gradient():
    head = make().eval()
    head(Features(rows()[:1].flatten(1))).sum().backward()  # the first modality alone
    assert head.slot.grad is not None
    assert head.slot.grad[0].any()
    assert not head.slot.grad[1:].any()
    assert head(Features(torch.zeros(2, M * W, dtype=torch.float64))).isfinite().all()


def test_dropout_leaves_each_subset_and_never_nothing():
    """A dropped modality is as one that is not there, at the stated rate, and the last one stays."""
    head = make(dropout=0.4)
    there = torch.tensor([[True, True, True]] * 4000 + [[False, True, False]] * 50)
    kept = head._choose(there)
    assert bool(kept[4000:].eq(there[4000:]).all())
    full = kept[:4000]
    assert bool(full.any(1).all())
    subsets = {tuple(row) for row in full.tolist()}
    assert len(subsets) == 7
    assert float(full.all(1).double().mean()) == pytest.approx(0.6**3, abs=0.03)
    assert float(full.double().mean()) == pytest.approx((3 * 0.6 + 0.4**3) / 3, abs=0.02)
    assert torch.equal(head.eval()._choose(there), there)
    assert torch.equal(make(dropout=0.0)._choose(there), there)


def test_the_layout_has_holes_and_means_of_several_rows():
    a, b = torch.randn(3, 2), F.normalize(torch.randn(4, 2), dim=1)
    table = Embeddings(
        {"audio": Rows(a, torch.tensor([0, 2, -1])), "text": Rows(b, torch.tensor([0, 1, 1, 2]))},
        ["x", "y", "z"],
        torch.arange(3),
    )
    found = lay_out(table, ["text", "audio"])
    mean = F.normalize(b[1] + b[2], dim=0)
    wanted = torch.stack([torch.cat([b[0], a[0]]), torch.cat([mean, torch.zeros(2)]), torch.cat([b[3], a[1]])])
    torch.testing.assert_close(found, wanted)
    with pytest.raises(ValueError, match="no embeddings of 'image' to lay out; there are audio, text"):
        lay_out(table, ["image"])


def test_the_start_is_near_the_mean_of_the_embeddings():
    torch.manual_seed(0)
    head = Fuse(2 * 8, 8, modalities=2)
    assert torch.equal(head.project.weight, torch.eye(8))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"modalities": 5}, "modalities must divide width; 12 is no multiple of 5"),
        ({"modalities": 3, "heads": 3}, "heads must divide the width of a modality; 4 is no multiple of 3"),
        ({"dropout": 1.0}, "dropout is 0 to below 1; got 1.0"),
    ],
)
def test_bad_options_are_one_line(options, says):
    with pytest.raises(ValueError, match=says):
        Fuse(12, 4, **options)


def test_a_tower_of_fuse_is_saved_and_loaded(tmp_path):
    import align
    from align import JointModel, Tower
    from align.encoders import Precomputed
    from align.preprocess import Array

    tower = Tower(Array([1, M * W]), Precomputed(M * W), Fuse(M * W, D, modalities=M))
    model = JointModel({"query": tower}, D).eval()
    align.save(model, tmp_path / "model")
    again = align.load(tmp_path / "model")
    given = [row.flatten()[None].float().numpy() for row in rows()]
    assert torch.equal(again.embed(query=given)["query"], model.embed(query=given)["query"])
