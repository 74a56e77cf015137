"""siglip against a plain double loop."""

from __future__ import annotations

import math

import pytest
import torch
from test_infonce import equal, ragged, rows

from align.losses import SigLIP, siglip


def loop(a, b, scale, bias, sample_a, sample_b, group_a=None, group_b=None, weight_a=None, weight_b=None):
    total = 0.0
    w_a = torch.ones(len(a), dtype=a.dtype) if weight_a is None else weight_a
    w_b = torch.ones(len(b), dtype=a.dtype) if weight_b is None else weight_b
    for i in range(len(a)):
        for j in range(len(b)):
            s = scale * (a[i] * b[j]).sum() + bias
            positive = sample_a[i] >= 0 and sample_a[i] == sample_b[j]
            if group_a is not None and not positive and group_a[i] >= 0 and group_a[i] == group_b[j]:
                continue
            total = total + (w_a[i] + w_b[j]) / 2 * torch.log1p(torch.exp(-s if positive else s))
    return total / ((w_a.sum() + w_b.sum()) / 2)


@pytest.mark.parametrize("extra", [(), ("group_a", "group_b"), ("weight_a", "weight_b"), ("weight_b",), tuple(ragged)])
def test_equals_the_loop(extra):
    a, b = rows(6, 8)
    scale = torch.tensor([7.0], dtype=torch.float64, requires_grad=True)
    bias = torch.tensor([-2.0], dtype=torch.float64, requires_grad=True)
    more = {name: ragged[name] for name in {"sample_a", "sample_b", *extra}}
    equal(siglip(a, b, scale, bias, **more), loop(a, b, scale, bias, **more), [a, b, scale, bias])


def test_gradcheck_on_ragged_rows():
    a, b = rows(6, 8, dim=3)
    numbers = [torch.tensor([x], dtype=torch.float64, requires_grad=True) for x in (3.0, -1.0)]
    assert torch.autograd.gradcheck(lambda x, y, s, t: siglip(x, y, s, t, **ragged), (a, b, *numbers))


def test_without_ids_row_i_is_sample_i():
    a, b = rows(5, 5)
    got = siglip(a, b, 10.0, -10.0)
    torch.testing.assert_close(got, loop(a, b, 10.0, -10.0, torch.arange(5), torch.arange(5)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("n_a", "n_b"), [(0, 0), (0, 3), (3, 0)])
def test_without_a_pair_it_is_a_differentiable_zero(n_a, n_b):
    a, b = rows(n_a, n_b)
    scale, bias = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    loss = siglip(a, b, scale, bias)
    assert (loss.item(), loss.shape) == (0, ())
    for x, grad in zip((a, b, scale, bias), torch.autograd.grad(loss, [a, b, scale, bias]), strict=True):
        assert torch.equal(grad, torch.zeros_like(x))


def test_without_a_positive_the_negatives_still_teach():
    a, b = rows(2, 3)
    ids = {"sample_a": torch.tensor([0, 1]), "sample_b": torch.tensor([2, 3, -1])}
    torch.testing.assert_close(siglip(a, b, 2.0, 0.5, **ids), loop(a, b, 2.0, 0.5, **ids), rtol=1e-12, atol=1e-12)


def test_finite_where_an_exponential_is_not():
    a = torch.eye(2)
    assert siglip(a, -a, 1e4, 0.0).isfinite()
    with torch.autocast("cpu", torch.bfloat16):
        assert siglip(a.bfloat16(), a.bfloat16(), 10.0, -10.0).dtype == torch.float32


def test_the_module_starts_as_the_paper():
    loss = SigLIP()
    loss.start(dim=128, modalities=2, batch=32)
    assert (loss.log_scale.shape, loss.bias.shape) == ((1,), (1,))
    assert (loss.scale.item(), loss.bias.item()) == (pytest.approx(10), pytest.approx(-math.log(31)))
    loss.start(dim=128, modalities=2, batch=32768)
    assert loss.bias.item() == pytest.approx(-10.4, abs=0.01)
    assert {name for name, _ in loss.named_parameters()} == {"log_scale", "bias"}
    with torch.no_grad():
        loss.log_scale.fill_(math.log(1000))
    loss.clamp_()
    assert loss.scale.item() == pytest.approx(100, rel=1e-5)
    a, b = rows(6, 8)
    mine = SigLIP(start_scale=3.0, start_bias=-1.0).double()
    mine.start(dim=5, modalities=2, batch=8)
    parts = [[ragged[f"{x}_a"], ragged[f"{x}_b"]] for x in ("sample", "group", "weight")]
    got = mine([a, b], parts[0], groups=parts[1], weights=parts[2])
    torch.testing.assert_close(got, siglip(a, b, mine.scale, mine.bias, **ragged), rtol=0, atol=0)


def test_what_does_not_fit():
    a, b = rows(4, 4)
    with pytest.raises(ValueError, match=r"bias is one number; got a tensor of shape \(3,\)"):
        siglip(a, b, 1.0, torch.ones(3))
    with pytest.raises(ValueError, match=r"sample_b has shape \(2,\); its rows need \(4,\)"):
        siglip(a, b, 1.0, 0.0, sample_b=torch.arange(2))
