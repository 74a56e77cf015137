"""alignment, uniformity, variance and covariance against plain loops."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from test_infonce import equal, ragged, rows
from torch import Tensor

from align.losses import AlignUniform, VICReg, alignment, covariance, uniformity, variance, vicreg


def aligned(a, b, alpha=2.0, weighted=False):
    total, count = 0.0, 0.0
    for i, j in itertools.product(range(len(a)), range(len(b))):
        if ragged["sample_a"][i] >= 0 and ragged["sample_a"][i] == ragged["sample_b"][j]:
            w = (ragged["weight_a"][i] + ragged["weight_b"][j]) / 2 if weighted else 1.0
            total = total + w * (a[i] - b[j]).norm() ** alpha
            count = count + w
    return total / count


def uniform(x, t=2.0, sample=None, group=None, weight=None):
    total, count = 0.0, 0.0
    for i, j in itertools.permutations(range(len(x)), 2):
        alike = sample is not None and sample[i] >= 0 and sample[i] == sample[j]
        alike = alike or (group is not None and group[i] >= 0 and group[i] == group[j])
        if not alike:
            w = 1.0 if weight is None else weight[i] * weight[j]
            total = total + w * torch.exp(-t * ((x[i] - x[j]) ** 2).sum())
            count = count + w
    return torch.log(total / count)


def moments(x: Tensor, weight: Tensor | None) -> Tensor:
    """(D, D) covariances; a weight of 2 is the row twice but for the unbiased divisor, Σw - Σw²/Σw."""
    w = torch.ones(len(x), dtype=x.dtype) if weight is None else weight
    mean = [sum(w[i] * x[i, d] for i in range(len(x))) / w.sum() for d in range(x.shape[1])]
    divisor = w.sum() - (w * w).sum() / w.sum()
    return torch.stack(
        [
            torch.stack(
                [
                    sum(w[i] * (x[i, d] - mean[d]) * (x[i, e] - mean[e]) for i in range(len(x))) / divisor
                    for e in range(x.shape[1])
                ]
            )
            for d in range(x.shape[1])
        ]
    )


def varied(x, target=1.0, eps=1e-4, weight=None):
    C, D = moments(x, weight), x.shape[1]
    return sum(torch.clamp(target - torch.sqrt(C[d, d] + eps), min=0) for d in range(D)) / D


def crossed(x, weight=None):
    C, D = moments(x, weight), x.shape[1]
    return sum(C[d, e] ** 2 for d, e in itertools.permutations(range(D), 2)) / D


ids = {name: ragged[name] for name in ("sample_a", "sample_b")}
both = {name: ragged[name] for name in ("weight_a", "weight_b")}


@pytest.mark.parametrize("alpha", [2.0, 1.0, 3.0])
def test_alignment_equals_the_loop(alpha):
    a, b = rows(6, 8)
    equal(alignment(a, b, alpha=alpha, **ids), aligned(a, b, alpha), [a, b])
    equal(alignment(a, b, alpha=alpha, **ids, **both), aligned(a, b, alpha, weighted=True), [a, b])


@pytest.mark.parametrize("extra", [(), ("sample",), ("group",), ("sample", "group", "weight")])
def test_uniformity_equals_the_loop(extra):
    (x,) = rows(8)
    more = {name: ragged[f"{name}_b"] for name in extra}
    equal(uniformity(x, t=1.5, **more), uniform(x, t=1.5, **more), [x])


@pytest.mark.parametrize("weight", [None, ragged["weight_b"]])
def test_variance_and_covariance_equal_the_loop(weight):
    (x,) = (2 * x for x in rows(8))
    equal(variance(x, weight=weight), varied(x, weight=weight), [x])
    equal(variance(x, target=0.9, eps=0.1, weight=weight), varied(x, 0.9, 0.1, weight), [x])
    equal(covariance(x, weight=weight), crossed(x, weight), [x])
    if weight is None:
        torch.testing.assert_close(moments(x, None), torch.cov(x.T), rtol=1e-12, atol=1e-12)


def test_vicreg_is_the_sum_of_its_parts():
    a, b = rows(6, 8)
    got = vicreg(a, b, invariance_weight=3.0, variance_weight=2.0, covariance_weight=5.0, target=0.5, **ids, **both)
    expected = 3 * aligned(a, b, weighted=True) / 5
    for x, weight in ((a, both["weight_a"]), (b, both["weight_b"])):
        expected = expected + 2 * varied(x, target=0.5, weight=weight) + 5 * crossed(x, weight)
    equal(got, expected, [a, b])


def test_identical_rows_have_finite_gradients():
    x = torch.ones(6, 4, dtype=torch.bfloat16).div(2).requires_grad_()
    for value in (alignment(x, x, alpha=1.0), alignment(x, x), uniformity(x), variance(x), covariance(x), vicreg(x, x)):
        assert value.dtype == torch.float32
        assert value.isfinite()
        assert torch.autograd.grad(value, x)[0].isfinite().all()
    assert alignment(x, x).item() == 0
    assert uniformity(x).item() == pytest.approx(0)  # collapsed: the most that it can be
    assert variance(x).item() == pytest.approx(1 - math.sqrt(1e-4))
    far = (1000 * torch.eye(4)).requires_grad_()  # exp(-t·2e6) is no float: the sum is shifted
    assert uniformity(far).item() == pytest.approx(-4e6)
    assert torch.autograd.grad(uniformity(far), far)[0].isfinite().all()


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_to_spread(n):
    (x,) = rows(n)
    (y,) = rows(0)
    one = torch.zeros(2, dtype=torch.int64)
    two = rows(2)[0]
    none = torch.zeros(2, dtype=torch.float64)
    values = [uniformity(x), variance(x), covariance(x), alignment(x, y)]
    for value in values:
        assert (value.item(), value.shape) == (0, ())
        assert torch.equal(torch.autograd.grad(value, x)[0], torch.zeros_like(x))
    for value in (
        uniformity(two, sample=one),
        uniformity(two, group=one),
        uniformity(two, weight=none),
        variance(two, weight=none),
        covariance(two, weight=none),
        alignment(two, two, weight_a=none, weight_b=none),
    ):
        assert value.item() == 0
        assert not torch.autograd.grad(value, two)[0].any()


def test_the_modules_are_the_functions():
    a, b = rows(6, 8)
    samples, groups, weights = ([ragged[f"{name}_{side}"] for side in "ab"] for name in ("sample", "group", "weight"))
    got = AlignUniform(0.5, 2.0, alpha=1.0, t=3.0)([a, b], samples, groups=groups, weights=weights)
    push = [
        uniformity(x, t=3.0, sample=s, group=g, weight=w)
        for x, s, g, w in zip((a, b), samples, groups, weights, strict=True)
    ]
    assert torch.equal(got, 0.5 * alignment(a, b, alpha=1.0, **ids, **both) + 2 * (push[0] + push[1]) / 2)
    options = {"invariance_weight": 2.0, "variance_weight": 3.0, "covariance_weight": 4.0, "target": 0.8, "eps": 0.01}
    plain = VICReg(**options, unit=False)([a, b], samples, weights=weights)
    assert torch.equal(plain, vicreg(a, b, **options, **ids, **both))
    unit = VICReg(**options)([a, b], samples, groups=groups, weights=weights)
    torch.testing.assert_close(unit, vicreg(math.sqrt(5) * a, math.sqrt(5) * b, **options, **ids, **both))


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("alpha is a positive number; got 0", lambda x: alignment(x, x, alpha=0)),
        ("t is a positive number; got -1", lambda x: uniformity(x, t=-1.0)),
        ("t is a positive number; got inf", lambda x: AlignUniform(t=math.inf)),
        ("alpha is a positive number; got 0", lambda x: AlignUniform(alpha=0.0)),
        (r"weight has shape \(2,\); its rows need \(3,\)", lambda x: variance(x, weight=torch.ones(2))),
        (r"sample has shape \(2,\); its rows need \(3,\)", lambda x: uniformity(x, sample=torch.arange(2))),
        ("floating tensors", lambda x: covariance(torch.arange(3))),
    ],
)
def test_what_does_not_fit(message, call):
    with pytest.raises(ValueError, match=message):
        call(torch.randn(3, 4))
