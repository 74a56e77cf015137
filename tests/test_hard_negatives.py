"""HardNegatives against loops in which a row of id -1 counts several times."""

from __future__ import annotations

import math

import pytest
import torch
from test_infonce import equal, ragged, rows
from test_symile import everything, loop, three, three_rows

from align.losses import HardNegatives, InfoNCE, SigLIP, Symile, infonce

ids = [ragged["sample_a"], ragged["sample_b"]]


def infonce_loop(a, b, scale, weight):
    total = 0.0
    for x, y, sx, sy in ((a, b, *ids), (b, a, *ids[::-1])):
        costs = []
        for i in range(len(x)):
            own = [j for j in range(len(y)) if sx[i] >= 0 and sx[i] == sy[j]]
            times = [weight if sy[j] == -1 else 1.0 for j in range(len(y))]
            every = sum(times[j] * torch.exp(scale * (x[i] * y[j]).sum()) for j in range(len(y)))
            if own:
                costs.append(sum(torch.log(every) - scale * (x[i] * y[j]).sum() for j in own) / len(own))
        total = total + sum(costs) / len(costs) / 2
    return total


@pytest.mark.parametrize("weight", [0.25, 1.0, 3.0])
def test_infonce_equals_the_loop(weight):
    a, b = rows(6, 8)
    loss = HardNegatives(InfoNCE(start_scale=7.0), weight).double()
    got = loss([a, b], ids)
    equal(got, infonce_loop(a, b, loss.scale, weight), [a, b, loss.loss.log_scale])


def test_weight_three_is_the_row_three_times():
    a, b = rows(6, 8)
    times = [1, 1, 1, 1, 3, 1], [1, 1, 1, 1, 3, 1, 1, 1]
    more = [torch.repeat_interleave(torch.arange(len(n)), torch.tensor(n)) for n in times]
    loss = HardNegatives(InfoNCE(), 3.0).double()
    expected = infonce(a[more[0]], b[more[1]], loss.scale, sample_a=ids[0][more[0]], sample_b=ids[1][more[1]])
    torch.testing.assert_close(loss([a, b], ids), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("weight", [0.25, 3.0])
def test_siglip_equals_the_loop(weight):
    a, b = rows(6, 8)
    loss = HardNegatives(SigLIP(start_bias=-2.0), weight).double()
    total = 0.0
    for i in range(6):
        for j in range(8):
            s = loss.scale * (a[i] * b[j]).sum() + loss.bias
            positive = ids[0][i] >= 0 and ids[0][i] == ids[1][j]
            times = weight ** ((ids[0][i] == -1).item() + (ids[1][j] == -1).item())
            total = total + torch.log1p(torch.exp(-s) if positive else times * torch.exp(s))
    equal(loss([a, b], ids), total / 7, [a, b, loss.loss.log_scale, loss.loss.bias])


@pytest.mark.parametrize("weight", [0.25, 3.0])
def test_symile_equals_the_loop(weight):
    xs = three_rows()
    samples = [*three["samples"][:2], torch.tensor([1, -1, 0, 0, 2, 9])]
    loss = HardNegatives(Symile("all", start_scale=6.0), weight).double()
    # A row's weight enters as a coordinate in the loop too, but written out: logits are products of three rows.
    total = 0.0
    for m in range(3):
        o, p = (k for k in range(3) if k != m)
        costs = []
        for i in range(len(xs[m])):
            if samples[m][i] < 0:
                continue
            logits, own = [], []
            for j in range(len(xs[o])):
                for k in range(len(xs[p])):
                    times = weight ** ((samples[o][j] == -1).item() + (samples[p][k] == -1).item())
                    logits.append(loss.scale * (xs[m][i] * xs[o][j] * xs[p][k]).sum() + math.log(times))
                    if samples[m][i] == samples[o][j] == samples[p][k]:
                        own.append(logits[-1])
            if own:
                costs.append(sum(torch.stack(logits).logsumexp(0).exp().log() - s.reshape(()) for s in own) / len(own))
        total = total + sum(costs) / len(costs) / 3
    equal(loss(xs, samples), total, [*xs, loss.loss.log_scale])
    plain = loop(xs, loss.scale, everything(xs), samples)
    torch.testing.assert_close(HardNegatives(loss.loss)(xs, samples), plain.reshape(()), rtol=1e-12, atol=0)


def test_low_precision_is_float32():
    a, b = (x.detach().bfloat16() for x in rows(6, 8, dim=32))
    loss = HardNegatives(InfoNCE(start_scale=100.0), 3.0)
    got = loss([a, b], ids)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), loss.double()([a.double(), b.double()], ids), rtol=1e-5, atol=0)


def test_no_rows():
    a, b = rows(0, 3)
    loss = HardNegatives(InfoNCE(), 2.0)
    got = loss([a, b], [torch.zeros(0).long(), torch.tensor([0, 1, -1])])
    got.backward()
    assert (got.item(), b.grad.abs().max().item()) == (0, 0)


@pytest.mark.parametrize("weight", [0.0, -1.0, math.inf, math.nan])
def test_the_weight_is_positive(weight):
    with pytest.raises(ValueError, match=f"weight is a positive number; got {weight}"):
        HardNegatives(InfoNCE(), weight)
