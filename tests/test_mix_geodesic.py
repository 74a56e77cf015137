"""MixGeodesic against its formula and a loop over anchors, pairs and mixed rows."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from test_infonce import equal, ragged, rows
from test_infonce import loop as infonce_loop
from test_siglip import loop as siglip_loop

from align.losses import InfoNCE, MixGeodesic, SigLIP
from align.losses.kernels.pairing import complete_tuples
from align.losses.wrappers.mix_geodesic import geodesic, shares

ids = [ragged["sample_a"], ragged["sample_b"]]
groups = [ragged["group_a"], ragged["group_b"]]


def arc(a, b, share):
    theta = torch.acos((a * b).sum() / (a.norm() * b.norm()))
    return a * torch.sin(share * theta) / torch.sin(theta) + b * torch.sin((1 - share) * theta) / torch.sin(theta)


def mixed_by_hand(a, b, sample_a, sample_b, seed):
    """The mixed rows, pair by pair, and the row of a that is in each."""
    found = [(i, j) for i in range(len(a)) for j in range(len(b)) if sample_a[i] >= 0 and sample_a[i] == sample_b[j]]
    drawn = shares(0.5, len(found), torch.Generator().manual_seed(seed))
    made = [arc(a[i], b[j], s) for (i, j), s in zip(found, drawn, strict=True)]
    return torch.stack(made), [i for i, _ in found]


def infonce_by_hand(a, b, scale, mixed, owner, kind_a, kind_b, owner_kind):
    """Each anchor against the other side's rows and the mixed rows that are neither its sample's nor its group's."""
    total = 0.0
    for x, y, sx, sy, gx, gy in ((a, b, *ids, kind_a, kind_b), (b, a, *ids[::-1], kind_b, kind_a)):
        costs = []
        for i in range(len(x)):
            own = [j for j in range(len(y)) if sx[i] >= 0 and sx[i] == sy[j]]
            against = [y[j] for j in range(len(y)) if j in own or gx is None or not (gx[i] >= 0 and gx[i] == gy[j])] + [
                m
                for m, s, g in zip(mixed, owner, owner_kind, strict=True)
                if s != sx[i] and not (gx is not None and g >= 0 and g == gx[i])
            ]
            every = torch.stack([scale * (x[i] * c).sum() for c in against]).logsumexp(0)
            if own:
                costs.append(sum(every - scale * (x[i] * y[j]).sum() for j in own) / len(own))
        total = total + sum(costs) / len(costs) / 2
    return total


@pytest.mark.parametrize("grouped", [False, True])
def test_equals_the_loop(grouped):
    raw = rows(6, 8)
    loss = MixGeodesic(InfoNCE(start_scale=7.0)).double()
    got = loss(
        [F.normalize(x, dim=1) for x in raw],
        ids,
        groups=groups if grouped else None,
        generator=torch.Generator().manual_seed(3),
    )
    a, b = (F.normalize(x, dim=1) for x in raw)
    mixed, of_a = mixed_by_hand(a, b, *ids, seed=3)
    kinds = groups if grouped else [None, None]
    owner_kind = groups[0][of_a].tolist() if grouped else [-1] * len(of_a)
    expected = infonce_by_hand(a, b, loss.scale, mixed, ids[0][of_a].tolist(), *kinds, owner_kind)
    equal(got, expected, raw)


def test_siglip_counts_a_pair_with_a_mixed_row_for_its_anchor_alone():
    raw = rows(6, 8)
    loss = MixGeodesic(SigLIP()).double()
    got = loss([F.normalize(x, dim=1) for x in raw], ids, generator=torch.Generator().manual_seed(3))
    a, b = (F.normalize(x, dim=1) for x in raw)
    mixed, of_a = mixed_by_hand(a, b, *ids, seed=3)
    scale, bias = loss.scale, loss.bias
    rest = 0.0
    for x, sample in ((a, ids[0]), (b, ids[1])):
        for i in range(len(x)):
            for m, s in zip(mixed, ids[0][of_a], strict=True):
                if s != sample[i]:
                    rest = rest + torch.log1p(torch.exp(scale * (x[i] * m).sum() + bias)) / 2
    expected = siglip_loop(a, b, scale, bias, *ids) + rest / 7
    equal(got, expected, raw)


def test_the_arc():
    draw = torch.Generator().manual_seed(0)
    a, b = (F.normalize(torch.randn(40, 3, generator=draw, dtype=torch.float64), dim=1) for _ in range(2))
    share = torch.rand(40, generator=draw, dtype=torch.float64)
    got = geodesic(a, b, share)
    torch.testing.assert_close(got, torch.stack([arc(*x) for x in zip(a, b, share, strict=True)]), rtol=0, atol=1e-12)
    torch.testing.assert_close(got.norm(dim=1), torch.ones(40).double())
    angle = torch.acos((a * b).sum(1))
    torch.testing.assert_close(torch.acos((got * b).sum(1)), share * angle, rtol=0, atol=1e-6)
    torch.testing.assert_close(geodesic(a, b, torch.ones(40).double()), a)
    torch.testing.assert_close(geodesic(a, b, torch.zeros(40).double()), b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_arc_is_finite_where_the_rows_agree_oppose_or_are_nothing(dtype):
    draw = torch.Generator().manual_seed(0)
    a = F.normalize(torch.randn(64, 16, generator=draw, dtype=dtype), dim=1)
    near = 10.0 ** torch.linspace(-16, -1, 64, dtype=dtype)[:, None]
    noise = near * torch.randn(64, 16, generator=draw, dtype=dtype)
    for b in (a, -a, F.normalize(a + noise, dim=1), F.normalize(-a + noise, dim=1), torch.zeros_like(a)):
        x, y = a.clone().requires_grad_(), b.clone().requires_grad_()
        got = geodesic(x, y, torch.full((64,), 0.3, dtype=dtype))
        got.square().sum().backward()
        for value in (got, x.grad, y.grad):
            assert value is not None
            assert value.isfinite().all()
        assert got.norm(dim=1).max() < 1.01
    torch.testing.assert_close(geodesic(a, a, torch.full((64,), 0.3, dtype=dtype)), a)


def test_pairs_are_those_of_a_double_loop():
    draw = torch.Generator().manual_seed(1)
    for n_a, n_b in ((9, 12), (0, 3), (3, 0), (0, 0), (5, 5)):
        a, b = (torch.randint(-1, 4, (n,), generator=draw) for n in (n_a, n_b))
        expected = [(i, j) for i in range(n_a) for j in range(n_b) if a[i] >= 0 and a[i] == b[j]]
        assert [*zip(*(x.tolist() for x in complete_tuples([a, b]).unbind(1)), strict=True)] == expected


def test_shares_are_beta_and_come_from_the_generator():
    made = [shares(0.5, 4000, torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
    assert made[0].mean().item() == pytest.approx(0.5, abs=0.02)
    assert made[0].var().item() == pytest.approx(1 / 8, abs=0.01)  # 1 / (4 (2 alpha + 1))
    assert shares(1e-3, 100, None).isfinite().all()
    torch.manual_seed(0)
    first = shares(1.0, 3, None)
    torch.manual_seed(0)
    assert torch.equal(first, shares(1.0, 3, None))


def test_a_group_of_63_bits_is_no_overflow():
    a, b = rows(4, 4)
    big = torch.tensor([2**63 - 1, 2**63 - 1, 2**63 - 2, -1])
    small = torch.tensor([1, 1, 0, -1])
    values = [
        MixGeodesic(InfoNCE())(
            [a, b], [torch.arange(4)] * 2, groups=[g, g], generator=torch.Generator().manual_seed(0)
        ).item()
        for g in (big, small)
    ]
    assert values[0] == values[1]


def test_mixed_rows_make_the_loss_harder_and_eval_mode_does_not_mix():
    a, b = rows(8, 8)
    loss = MixGeodesic(InfoNCE()).double()
    plain = infonce_loop(a, b, loss.scale, range(8), range(8))
    assert loss([a, b], [torch.arange(8)] * 2).item() > plain.item() + 0.1
    torch.testing.assert_close(loss.eval()([a, b], [torch.arange(8)] * 2), plain.reshape(()))


def test_no_rows_and_no_pairs():
    loss = MixGeodesic(InfoNCE())
    for n_a, n_b, first in ((0, 3, 0), (0, 0, 0), (2, 3, 10)):
        a, b = rows(n_a, n_b)
        got = loss([a, b], [torch.arange(n_a) + first, torch.arange(n_b)])
        assert got.item() == 0
        assert all(not grad.any() for grad in torch.autograd.grad(got, [a, b, loss.loss.log_scale]))


@pytest.mark.parametrize("alpha", [0.0, -1.0, math.inf, math.nan])
def test_alpha_is_positive(alpha):
    with pytest.raises(ValueError, match=f"alpha is a positive number; got {alpha}"):
        MixGeodesic(InfoNCE(), alpha)
