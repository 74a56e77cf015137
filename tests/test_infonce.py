"""infonce against a plain double loop, CLIP's own formula, and torch's label smoothing."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from align.losses import InfoNCE, infonce

ragged = {  # two rows of sample 4, a sample on one side only, hard negatives, a group across samples
    "sample_a": torch.tensor([0, 4, 4, 2, -1, 7]),
    "sample_b": torch.tensor([4, 0, 4, 4, -1, 9, 2, 0]),
    "group_a": torch.tensor([5, 1, 1, 5, -1, 3]),
    "group_b": torch.tensor([1, 5, 1, 1, -1, 3, 5, 5]),
    "weight_a": torch.tensor([1.0, 0.5, 2.0, 0.0, 1.0, 3.0], dtype=torch.float64),
    "weight_b": torch.tensor([1.0, 0.25, 1.0, 3.0, 1.0, 1.0, 0.5, 2.0], dtype=torch.float64),
}


def rows(*lengths: int, dim: int = 5, seed: int = 0) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    made = [torch.randn(n, dim, dtype=torch.float64, generator=draw) for n in lengths]
    return [F.normalize(x, dim=1).requires_grad_() for x in made]


def loop(a, b, scale, sample_a, sample_b, positives="mean", smoothing=0.0, group_a=None, group_b=None, **weights):
    """One anchor after the other, one candidate after the other."""
    directions = []
    for x, y, sx, sy, gx, gy, w in (
        (a, b, sample_a, sample_b, group_a, group_b, weights.get("weight_a")),
        (b, a, sample_b, sample_a, group_b, group_a, weights.get("weight_b")),
    ):
        total, count = 0.0, 0.0
        for i in range(len(x)):
            own = [j for j in range(len(y)) if sx[i] >= 0 and sx[i] == sy[j]]
            if not own:
                continue
            alike = [gx is not None and gx[i] >= 0 and gx[i] == gy[j] and j not in own for j in range(len(y))]
            s = [scale * (x[i] * y[j]).sum() for j in range(len(y))]
            candidates = [s[j] for j in range(len(y)) if not alike[j]]
            every = sum(torch.exp(c) for c in candidates)
            p = [torch.exp(s[j]) / every for j in own]
            if positives == "mean":
                cost = -sum(torch.log(q) for q in p) / len(own)
            else:
                cost = -torch.log(sum(p) / (len(own) if positives == "inside" else 1))
            spread = sum(torch.log(every) - c for c in candidates) / len(candidates)
            weight = 1.0 if w is None else w[i]
            total = total + weight * ((1 - smoothing) * cost + smoothing * spread)
            count = count + weight
        directions.append(total / count if count else 0.0)
    return sum(directions) / 2


def equal(got: Tensor, expected: Tensor, inputs: list[Tensor]) -> None:
    assert got.shape == ()
    torch.testing.assert_close(got, expected.reshape(()), rtol=1e-12, atol=1e-12)
    grads = zip(torch.autograd.grad(got, inputs), torch.autograd.grad(expected, inputs), strict=True)
    for mine, theirs in grads:
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("positives", ["mean", "inside", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("extra", [(), ("group_a", "group_b"), ("weight_a", "weight_b"), ("weight_a",)])
@pytest.mark.parametrize("tile", [None, 4])
def test_equals_the_loop(positives, smoothing, extra, tile):
    a, b = rows(6, 8)
    scale = torch.tensor([7.0], dtype=torch.float64, requires_grad=True)
    more = {name: ragged[name] for name in ("sample_a", "sample_b", *extra)}
    got = infonce(a, b, scale, positives=positives, label_smoothing=smoothing, tile=tile, **more)
    equal(got, loop(a, b, scale, positives=positives, smoothing=smoothing, **more), [a, b, scale])


@pytest.mark.parametrize("positives", ["mean", "inside", "sum"])
@pytest.mark.parametrize("tile", [None, 4])
def test_gradcheck_on_ragged_rows(positives, tile):
    a, b = rows(6, 8, dim=3)
    scale = torch.tensor([3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, y, s: infonce(x, y, s, positives=positives, label_smoothing=0.2, tile=tile, **ragged), (a, b, scale)
    )


@pytest.mark.parametrize("positives", ["mean", "inside", "sum"])
def test_few_rows_have_a_second_derivative(positives):
    a, b = rows(6, 8, dim=2)
    scale = torch.tensor([3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(
        lambda x, y, s: infonce(x, y, s, positives=positives, label_smoothing=0.2, focal=1.5, **ragged), (a, b, scale)
    )


@pytest.mark.parametrize(("n_a", "n_b", "dense"), [(256, 256, True), (256, 257, False), (1, 65536, True)])
def test_the_matrix_is_made_up_to_256_rows_a_side(n_a, n_b, dense, monkeypatch):
    """Both ways give one value and one gradient, on either side of the border, with groups, and in float32 too."""
    module = importlib.import_module("align.losses.infonce")

    asked = []

    def counted(*args, **options):
        asked.append(1)
        return log_sums(*args, **options)

    log_sums = module.log_sums
    monkeypatch.setattr(module, "log_sums", counted)
    a, b = rows(n_a, n_b)
    draw = torch.Generator().manual_seed(1)
    more = {f"sample_{x}": torch.randint(-1, 99, (n,), generator=draw) for x, n in (("a", n_a), ("b", n_b))}
    more |= {f"group_{x}": torch.randint(-1, 9, (n,), generator=draw) for x, n in (("a", n_a), ("b", n_b))}
    got = infonce(a, b, 14.0, **more)
    assert bool(asked) is not dense
    equal(got, infonce(a, b, 14.0, tile=64, **more), [a, b])
    low = [x.detach().float() for x in (a, b)]
    torch.testing.assert_close(infonce(*low, 14.0, **more), got.float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("positives", ["mean", "inside", "sum"])
@pytest.mark.parametrize("scale", [14.3, 90.0])  # 90: exp is shifted
@pytest.mark.parametrize(("n_a", "n_b"), [(64, 64), (64, 50), (37, 64), (1, 7), (200, 300)])
@pytest.mark.parametrize("extra", [(), ("sample",), ("sample", "group"), ("group",)])
def test_the_matrix_has_the_bits_of_a_tile(positives, scale, n_a, n_b, extra):
    """So a run of few rows keeps its weights, whichever way its loss is made."""
    draw = torch.Generator().manual_seed(n_a)
    a, b = (F.normalize(torch.randn(n, 33, generator=draw), dim=1) for n in (n_a, n_b))
    ids = {"sample": 40, "group": 9}
    more = {
        f"{x}_{side}": torch.randint(-1, ids[x], (n,), generator=draw)
        for x in extra
        for side, n in (("a", n_a), ("b", n_b))
    }
    found = []
    for tile in (None, 4096):  # 4096: one slab
        inputs = [a.clone().requires_grad_(), b.clone().requires_grad_(), torch.tensor(scale, requires_grad=True)]
        loss = infonce(*inputs, positives=positives, label_smoothing=0.1, tile=tile, **more)
        found.append([loss.detach(), *torch.autograd.grad(loss, inputs)])
    for dense, tiled in zip(*found, strict=True):
        assert torch.equal(dense, tiled)


def test_without_ids_it_is_clip():
    a, b = rows(7, 7)
    logits = 14.3 * a @ b.T
    target = torch.arange(7)
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    equal(infonce(a, b, 14.3), expected, [a, b])
    smooth = (
        F.cross_entropy(logits, target, label_smoothing=0.1) + F.cross_entropy(logits.T, target, label_smoothing=0.1)
    ) / 2
    torch.testing.assert_close(infonce(a, b, 14.3, label_smoothing=0.1), smooth, rtol=1e-12, atol=1e-12)
    ids = torch.randperm(7)
    torch.testing.assert_close(infonce(a, b, 14.3), infonce(a[ids], b, 14.3, sample_a=ids), rtol=1e-12, atol=1e-12)


def test_a_hard_negative_only_pushes_away():
    a, b = rows(2, 3)
    got = infonce(a, b, 5.0, sample_a=torch.tensor([0, 1]), sample_b=torch.tensor([0, 1, -1]))
    logits = 5 * a @ b.T
    there = F.cross_entropy(logits, torch.arange(2))
    back = F.cross_entropy(logits.T[:2], torch.arange(2))
    torch.testing.assert_close(got, (there + back) / 2, rtol=1e-12, atol=1e-12)


def test_a_group_leaves_out_negatives_and_never_positives():
    a, b = rows(3, 3)
    one = torch.zeros(3, dtype=torch.int64)
    assert abs(infonce(a, b, 5.0, group_a=one, group_b=one).item()) < 1e-12  # only the positive remains
    none = torch.full((3,), -1)
    torch.testing.assert_close(infonce(a, b, 5.0, group_a=none, group_b=none), infonce(a, b, 5.0))


@pytest.mark.parametrize(
    ("n_a", "n_b", "ids"),
    [(0, 0, None), (0, 3, None), (3, 0, None), (2, 3, ([0, 1], [2, 3, 4])), (2, 2, ([-1, -1], [-1, -1]))],
)
@pytest.mark.parametrize("tile", [None, 4])
def test_nothing_pairs(n_a, n_b, ids, tile):
    a, b = rows(n_a, n_b)
    scale = torch.ones(1, requires_grad=True)
    more = {} if ids is None else {"sample_a": torch.tensor(ids[0]), "sample_b": torch.tensor(ids[1])}
    one = {"group_a": torch.zeros(n_a, dtype=torch.int64), "group_b": torch.zeros(n_b, dtype=torch.int64)}
    for grouped in ({}, one):
        for positives in ("mean", "inside", "sum"):
            loss = infonce(a, b, scale, positives=positives, label_smoothing=0.1, tile=tile, **more, **grouped)
            assert loss.item() == 0
            assert loss.shape == ()
            for x, grad in zip((a, b, scale), torch.autograd.grad(loss, [a, b, scale]), strict=True):
                assert torch.equal(grad, torch.zeros_like(x))


def test_logits_are_float32_at_least():
    a, b = (x.detach() for x in rows(16, 16, dim=64))
    exact = infonce(a, b, 100.0)
    for kind in (torch.bfloat16, torch.float16):
        low = infonce(a.to(kind), b.to(kind), 100.0)
        assert low.dtype == torch.float32
        torch.testing.assert_close(low, infonce(a.to(kind).double(), b.to(kind).double(), 100.0).float())
    with torch.autocast("cpu", torch.bfloat16):
        auto = infonce(a.float(), b.float(), 100.0)
    assert auto.dtype == torch.float32
    assert abs(auto.item() - exact.item()) <= 1e-5 * exact.item()
    assert exact.dtype == torch.float64


@pytest.mark.parametrize(
    ("message", "change"),
    [
        (r"positives is 'mean', 'inside' or 'sum'; got 'max'", {"positives": "max"}),
        (r"label_smoothing is at least 0 and below 1; got 1", {"label_smoothing": 1.0}),
        (r"sample_a has shape \(3,\); its rows need \(4,\)", {"sample_a": torch.arange(3)}),
        (r"weight_b has shape \(3,\); its rows need \(4,\)", {"weight_b": torch.ones(3)}),
        (r"group_a and group_b come together; only group_a was given", {"group_a": torch.arange(4)}),
        (r"scale is one number; got a tensor of shape \(2,\)", {"scale": torch.ones(2)}),
        (r"one D; got shapes \(4, 5\), \(4, 6\)", {"b": torch.ones(4, 6)}),
        (r"floating tensors .* of torch.float64, torch.int64", {"b": torch.arange(20).reshape(4, 5)}),
    ],
)
def test_what_does_not_fit(message, change):
    a, b = rows(4, 4)
    with pytest.raises(ValueError, match=message):
        infonce(**({"a": a, "b": b, "scale": 1.0} | change))


def test_the_module_starts_at_clip_and_is_clamped_after_the_step():
    loss = InfoNCE()
    loss.start(dim=512, modalities=2, batch=64)
    assert loss.log_scale.shape == (1,)
    assert loss.scale.item() == pytest.approx(1 / 0.07)
    with torch.no_grad():
        loss.log_scale.fill_(6.0)
    assert loss.scale.item() == pytest.approx(math.exp(6), rel=1e-5)
    a, b = rows(4, 4)
    ids = [torch.arange(4), torch.arange(4)]
    loss([a, b], ids).backward()
    assert loss.log_scale.grad is not None
    assert loss.log_scale.grad.item() != 0  # above the limit it still learns its way back
    loss.clamp_()
    assert loss.scale.item() == pytest.approx(100, rel=1e-5)


def test_the_module_is_the_function():
    a, b = rows(6, 8)
    loss = InfoNCE(positives="inside", label_smoothing=0.1, start_scale=5.0, max_scale=8.0, learn_scale=False).double()
    loss.start(dim=5, modalities=2, batch=8)
    got = loss(
        [a, b],
        [ragged["sample_a"], ragged["sample_b"]],
        groups=[ragged["group_a"], ragged["group_b"]],
        weights=[ragged["weight_a"], ragged["weight_b"]],
    )
    expected = infonce(a, b, loss.scale, positives="inside", label_smoothing=0.1, **ragged)
    assert torch.equal(got, expected)
    assert not loss.log_scale.requires_grad
    assert loss.scale.item() == pytest.approx(5)
    assert (loss.limit, loss.bias) == (8.0, None)
    with pytest.raises(ValueError, match="start_scale is a positive number; got -1"):
        InfoNCE(start_scale=-1.0)


def one_way(x, y, scale, sx, sy):
    """(anchors,) the costs of the anchors that have a positive, by a loop."""
    costs = []
    for i in range(len(x)):
        own = [j for j in range(len(y)) if sx[i] >= 0 and sx[i] == sy[j]]
        if own:
            s = torch.stack([scale * (x[i] * y[j]).sum() for j in range(len(y))])
            costs.append(sum(s.logsumexp(0) - s[j] for j in own) / len(own))
    return torch.stack(costs)


@pytest.mark.parametrize("directions", [(1.0, 1.0), (3.0, 1.0), (0.0, 2.0), (1.0, 0.0)])
@pytest.mark.parametrize("focal", [0.0, 1.0, 2.5])
def test_directions_and_focal_weights(directions, focal):
    a, b = rows(6, 8)
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    sa, sb = ragged["sample_a"], ragged["sample_b"]
    expected = torch.zeros((), dtype=torch.float64)
    for weight, costs in zip(directions, [one_way(a, b, scale, sa, sb), one_way(b, a, scale, sb, sa)], strict=True):
        hard = (1 - torch.exp(-costs)) ** focal
        expected = expected + weight / sum(directions) * (hard * costs).mean()
    got = infonce(a, b, scale, sample_a=sa, sample_b=sb, directions=directions, focal=focal)
    equal(got, expected, [a, b, scale])


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("focal is at least 0; got -1", {"focal": -1}),
        ("two weights, not negative and not both 0; got \\(0, 0\\)", {"directions": (0, 0)}),
        ("two weights, not negative and not both 0; got \\(1, -1\\)", {"directions": (1, -1)}),
    ],
)
def test_new_options_that_do_not_fit(message, options):
    with pytest.raises(ValueError, match=message):
        infonce(*rows(2, 2), 1.0, **options)


def test_the_module_passes_its_options_on():
    a, b = rows(6, 8)
    loss = InfoNCE(directions=(1.0, 3.0), focal=2.0, start_scale=3.0).double()
    got = loss([a, b], [ragged["sample_a"], ragged["sample_b"]])
    more = {"sample_a": ragged["sample_a"], "sample_b": ragged["sample_b"]}
    assert torch.equal(got, infonce(a, b, loss.scale, directions=(1.0, 3.0), focal=2.0, **more))
