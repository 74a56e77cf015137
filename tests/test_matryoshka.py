"""Matryoshka against a loop over its prefixes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from test_infonce import equal, ragged, rows
from test_infonce import loop as infonce_loop
from test_symile import everything, three, three_rows
from test_symile import loop as symile_loop
from torch import Tensor

from align.losses import InfoNCE, Matryoshka, SigLIP, Symile

ids = [ragged["sample_a"], ragged["sample_b"]]


def cut(x: Tensor, size: int) -> Tensor:
    """One row after the other: its first coordinates, divided by their length; the whole as it is."""
    if size == x.shape[1]:
        return x
    return torch.stack([row[:size] / (row[:size] ** 2).sum().sqrt() for row in x])


@pytest.mark.parametrize("weights", [None, [0.5, 0.0, 2.0]])
@pytest.mark.parametrize("extra", [(), ("group_a", "group_b", "weight_a", "weight_b")])
def test_equals_the_loop(weights, extra):
    a, b = rows(6, 8, dim=6)
    loss = Matryoshka(InfoNCE(), [2, 3, 6], weights).double()
    loss.start(6, 2, 8)
    more = {name: ragged[name] for name in extra}
    groups = [more["group_a"], more["group_b"]] if extra else None
    shares = [more["weight_a"], more["weight_b"]] if extra else None
    got = loss([a, b], ids, groups=groups, weights=shares)
    expected = sum(
        weight * infonce_loop(cut(a, size), cut(b, size), loss.scale, *ids, **more)
        for weight, size in zip(weights or [1, 1, 1], [2, 3, 6], strict=True)
    )
    equal(got, torch.as_tensor(expected), [a, b])


def test_symile_has_a_scale_for_each_size():
    xs = three_rows(dim=6)
    loss = Matryoshka(Symile("all"), [2, 6]).double()
    loss.start(6, 3, 8)
    got = loss(xs, three["samples"])
    scales = [10 * 2**0.5, 10 * 6**0.5]
    expected = sum(
        symile_loop(cut_all, scale, everything(cut_all), three["samples"])
        for cut_all, scale in zip([[cut(x, 2) for x in xs], xs], scales, strict=True)
    )
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)  # the parameter is the float32 log of the scale
    assert loss.scale.item() == pytest.approx(scales[1], rel=1e-5)


@pytest.mark.parametrize("inner", [InfoNCE, SigLIP, Symile])
def test_every_prefix_has_a_live_gradient_at_the_start(inner):
    n, dim, dims = 32, 256, [8, 32, 128, 256]
    draw = torch.Generator().manual_seed(0)
    norms = []
    for size in dims:
        xs = [torch.randn(n, dim, generator=draw).requires_grad_() for _ in range(3 if inner is Symile else 2)]
        loss = Matryoshka(inner(), dims, [float(d == size) for d in dims])
        loss.start(dim, len(xs), n)
        value = loss([F.normalize(x, dim=1) for x in xs], [torch.arange(n)] * len(xs))
        grads = torch.autograd.grad(value, xs)
        unit = [g * x.norm(dim=1, keepdim=True) for g, x in zip(grads, xs, strict=True)]
        norms.append(torch.cat(unit).norm().item())
    assert min(norms) > max(norms) / 16, norms
    if inner is Symile:  # the scale of another D would not do: it is too flat by the ratio of the two
        flat = Matryoshka(Symile(start_scale=14.0), dims, [0.0, 0.0, 0.0, 1.0])
        flat.start(dim, 3, n)
        (grad,) = torch.autograd.grad(flat([F.normalize(x, dim=1) for x in xs], [torch.arange(n)] * 3), xs[:1])
        assert (grad * xs[0].norm(dim=1, keepdim=True)).norm() < max(norms) / 8


def test_each_prefix_learns_its_own_temperature_and_all_are_clamped():
    a, b = rows(8, 8, dim=4)
    loss = Matryoshka(InfoNCE(), [2, 4]).double()
    loss.start(4, 2, 8)
    loss([a, b], [torch.arange(8)] * 2).backward()
    grads = [p.grad.item() for p in loss.parameters() if p.grad is not None]
    assert len(grads) == 2
    assert len({*grads}) == 2
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.fill_(9.0)
    loss.clamp_()
    assert [p.exp().item() for p in loss.parameters()] == pytest.approx([100, 100])


def test_what_is_not_normalised_is_taken_as_it_is():
    a, b = (3 * x.detach() for x in rows(4, 4, dim=4))
    loss = Matryoshka(InfoNCE(start_scale=1.0), [2, 4]).double()
    loss.start(4, 2, 4)
    got = loss([a, b], [torch.arange(4)] * 2)
    expected = sum(infonce_loop(a[:, :d], b[:, :d], 1.0, range(4), range(4)) for d in (2, 4))
    torch.testing.assert_close(got, torch.as_tensor(expected))


def test_low_precision_and_no_rows():
    a, b = (x.detach() for x in rows(8, 8, dim=64))
    loss = Matryoshka(InfoNCE(), [16, 64])
    loss.start(64, 2, 8)
    low = [a.bfloat16(), b.bfloat16()]
    assert loss(low, [torch.arange(8)] * 2).dtype == torch.float32
    as_given = loss([x.double() for x in low], [torch.arange(8)] * 2)
    torch.testing.assert_close(loss(low, [torch.arange(8)] * 2).double(), as_given, rtol=1e-5, atol=0)
    none = torch.zeros(0, 64, requires_grad=True)
    nothing = loss([none, b.float()], [torch.zeros(0).long(), torch.arange(8)])
    nothing.backward()
    assert nothing.item() == 0
    zeros = torch.zeros(3, 64).index_fill(1, torch.tensor([63]), 1.0).requires_grad_()  # a prefix of nothing
    loss([zeros, b[:3].float()], [torch.arange(3)] * 2).backward()
    assert zeros.grad is not None
    assert zeros.grad.isfinite().all()


@pytest.mark.parametrize(
    ("message", "dims", "weights"),
    [
        (r"growing numbers of coordinates, as in \[32, 64, 128\]; got \[\]", [], None),
        (r"growing numbers .* got \[4, 4\]", [4, 4], None),
        (r"growing numbers .* got \[0, 4\]", [0, 4], None),
        (r"one number for each of the 2 dims; got 1", [2, 4], [1.0]),
        (r"numbers of at least 0; got \[1.0, -1.0\]", [2, 4], [1.0, -1.0]),
    ],
)
def test_what_does_not_fit(message, dims, weights):
    with pytest.raises(ValueError, match=message):
        Matryoshka(InfoNCE(), dims, weights)


def test_the_last_prefix_is_the_whole():
    loss = Matryoshka(InfoNCE(), [2, 4])
    with pytest.raises(ValueError, match=r"the last of Matryoshka's dims is the whole embedding, 8; got \[2, 4\]"):
        loss.start(8, 2, 8)
    with pytest.raises(ValueError, match=r"whole embedding, 5; got \[2, 4\]"):
        loss(rows(3, 3), [torch.arange(3)] * 2)
