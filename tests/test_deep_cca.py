"""deep_cca and wasserstein against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from test_infonce import ragged, rows
from torch import Tensor

from align.losses import DeepCCA, Wasserstein, deep_cca, wasserstein

ids = {name: ragged[name] for name in ("sample_a", "sample_b")}
both = {name: ragged[name] for name in ("weight_a", "weight_b")}


def pairs_of(a: Tensor, b: Tensor, weighted: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of both sides of every pair, and the pairs' weights."""
    x, y, w = [], [], []
    for i in range(len(a)):
        for j in range(len(b)):
            if ragged["sample_a"][i] >= 0 and ragged["sample_a"][i] == ragged["sample_b"][j]:
                x.append(a[i].detach().numpy())
                y.append(b[j].detach().numpy())
                w.append(float((ragged["weight_a"][i] + ragged["weight_b"][j]) / 2) if weighted else 1.0)
    return np.array(x), np.array(y), np.array(w)


def correlations(x: np.ndarray, y: np.ndarray, w: np.ndarray, ridge: float) -> np.ndarray:
    """The canonical correlations, by eigenvalues as in Andrew et al.: largest first."""
    w = w / w.sum()
    x, y = x - w @ x, y - w @ y
    unbiased = 1 - (w**2).sum()
    aa, bb = ((w[:, None] * z).T @ z / unbiased + ridge * np.eye(z.shape[1]) for z in (x, y))
    ab = (w[:, None] * x).T @ y / unbiased
    roots = []
    for matrix in (aa, bb):
        values, vectors = np.linalg.eigh(matrix)
        roots.append(vectors @ np.diag(values**-0.5) @ vectors.T)
    T = roots[0] @ ab @ roots[1]
    return np.linalg.svd(T, compute_uv=False)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("directions", "ridge"), [(None, 1e-2), (2, 0.3)])
def test_deep_cca_equals_the_loop(directions, ridge, weighted):
    a, b = rows(6, 8)
    more = both if weighted else {}
    expected = -correlations(*pairs_of(a, b, weighted), ridge)[:directions].sum()
    got = deep_cca(a, b, directions=directions, ridge=ridge, **ids, **more)
    assert got.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("directions", [None, 2])
def test_its_gradient_is_that_of_differences(directions):
    draw = torch.Generator().manual_seed(2)
    a, b = (torch.randn(6, 3, dtype=torch.float64, generator=draw, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda x, y: deep_cca(x, y, directions=directions), (a, b))


def test_correlations_do_not_change_when_a_side_is_turned_and_stretched():
    draw = torch.Generator().manual_seed(3)
    a = torch.randn(40, 3, dtype=torch.float64, generator=draw)
    turned = a @ torch.randn(3, 3, dtype=torch.float64, generator=draw) + 2
    assert deep_cca(a, turned, ridge=1e-9).item() == pytest.approx(-3, abs=1e-6)
    other = torch.randn(4000, 3, dtype=torch.float64, generator=draw)
    assert deep_cca(other, other.roll(1, 0)).item() > -0.2


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_fewer_pairs_than_coordinates(n):
    x, y = (z.float().detach().requires_grad_() for z in rows(n, n))
    value = DeepCCA()([x, y], [torch.arange(n)] * 2)
    grads = torch.autograd.grad(value, [x, y])
    assert all(grad.isfinite().all() for grad in (value, *grads))
    assert -max(n, 1) < value.item() <= 0
    assert (value.item() == 0) == (n < 2)
    assert any(grad.abs().max() > 0 for grad in grads) if n > 1 else not any(grad.any() for grad in grads)
    same = torch.ones(4, 5, requires_grad=True)
    assert torch.autograd.grad(deep_cca(same, same), same)[0].isfinite().all()
    none = torch.zeros(n, dtype=torch.float64)
    assert deep_cca(*rows(n, n), weight_a=none, weight_b=none).item() == 0


def test_a_ridge_that_rounding_loses_is_one_line():
    """Ten pairs of 32 numbers have a singular covariance, whose ridge is all that it has in most directions."""
    a, b = (1e4 * torch.randn(10, 32, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    with pytest.raises(
        ValueError, match=r"ridge 0\.01 is lost in the rounding of variances of \d.*: raise it, or take"
    ):
        deep_cca(a, b)
    assert deep_cca(a, b, ridge=1e4).isfinite()


def distance(x: list[tuple[float, float]], y: list[tuple[float, float]], power: float) -> float:
    """W_p^p of two lists of (number, mass), in one dimension: the plan moves the lowest mass first."""
    x, y = ([[v, m / sum(m for _, m in side)] for v, m in sorted(side)] for side in (x, y))
    total, i, j = 0.0, 0, 0
    while i < len(x) and j < len(y):
        moved = min(x[i][1], y[j][1])
        total += moved * abs(x[i][0] - y[j][0]) ** power
        x[i][1] -= moved
        y[j][1] -= moved
        i, j = i + (x[i][1] <= 1e-15), j + (y[j][1] <= 1e-15)
    return total


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("extra", [(), ("sample",), ("sample", "weight")])
def test_wasserstein_equals_the_loop(extra, power):
    a, b = rows(6, 8)
    theta = rows(3)[0].detach()
    more = {f"{name}_{side}": ragged[f"{name}_{side}"] for name in extra for side in "ab"}
    expected = 0.0
    for direction in theta:
        sides = []
        for x, side in ((a.detach(), "a"), (b.detach(), "b")):
            mass = ragged[f"weight_{side}"] if "weight" in extra else torch.ones(len(x))
            there = ragged[f"sample_{side}"] >= 0 if "sample" in extra else torch.ones(len(x), dtype=torch.bool)
            sides.append([(float(x[i] @ direction), float(mass[i])) for i in range(len(x)) if there[i]])
        expected += distance(*sides, power) / len(theta)
    got = wasserstein(a, b, theta, power=power, **more)
    assert got.item() == pytest.approx(expected, abs=1e-12)
    grads = torch.autograd.grad(got, [a, b])
    step = 1e-6
    moved = wasserstein(a + step * grads[0], b + step * grads[1], theta, power=power, **more)
    slope = float(sum(grad.square().sum() for grad in grads))
    assert (moved - got).item() == pytest.approx(step * slope, rel=1e-3)


def test_a_shift_counts_its_length_and_an_order_nothing():
    (x,) = rows(8)
    far = torch.zeros(5, dtype=torch.float64)
    far[2] = 3.0
    order = torch.tensor([3, 1, 0, 2, 7, 6, 5, 4])
    ones = [torch.arange(8)] * 2
    loss = Wasserstein(4000)
    assert loss([x, x[order]], ones).item() == pytest.approx(0, abs=1e-12)
    assert loss([x, x[order] + far], ones).item() == pytest.approx(9.0, rel=0.1)
    one, two = (Wasserstein(8)([x, x + far], ones, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    assert one != two


def test_no_mass_is_zero():
    (x,), (y,) = rows(3), rows(0)
    theta = torch.eye(5, dtype=torch.float64)
    gone = -torch.ones(3, dtype=torch.int64)
    for value in (
        wasserstein(x, y, theta),
        wasserstein(x, x, theta[:0]),
        wasserstein(x, x, theta, sample_a=gone),
        wasserstein(x, x, theta, weight_b=torch.zeros(3)),
    ):
        assert value.item() == 0
        assert not torch.autograd.grad(value, x)[0].any()


def test_the_modules_are_the_functions():
    a, b = rows(6, 8)
    samples, groups, weights = ([ragged[f"{name}_{side}"] for side in "ab"] for name in ("sample", "group", "weight"))
    options = {"directions": 2, "ridge": 0.1}
    plain = DeepCCA(**options, unit=False)([a, b], samples, groups=groups, weights=weights)
    assert torch.equal(plain, deep_cca(a, b, **options, **ids, **both))
    unit = DeepCCA(**options)([a, b], samples, weights=weights)
    torch.testing.assert_close(unit, deep_cca(math.sqrt(5) * a, math.sqrt(5) * b, **options, **ids, **both))
    draw = torch.Generator().manual_seed(4)
    theta = torch.nn.functional.normalize(torch.randn(6, 5, generator=draw), dim=1)
    got = Wasserstein(6, 1.0)([a, b], samples, groups=groups, weights=weights, generator=draw.manual_seed(4))
    torch.testing.assert_close(got, 5 * wasserstein(a, b, theta, power=1.0, **ids, **both))
    half = [x.detach().bfloat16().requires_grad_() for x in (a, b)]
    for loss in (DeepCCA(), Wasserstein()):
        value = loss(half, samples)
        assert value.dtype == torch.float32
        assert all(grad.isfinite().all() for grad in torch.autograd.grad(value, half))


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("ridge is a positive number; got 0", lambda x: deep_cca(x, x, ridge=0.0)),
        ("directions is 1 to D, 4; got 5", lambda x: deep_cca(x, x, directions=5)),
        ("power is at least 1; got 0.5", lambda x: wasserstein(x, x, x, power=0.5)),
        ("power is at least 1; got nan", lambda x: Wasserstein(power=math.nan)),
        ("directions is at least 1; got 0", lambda x: Wasserstein(0)),
        (r"weight_a has shape \(2,\); its rows need \(3,\)", lambda x: deep_cca(x, x, weight_a=torch.ones(2))),
        (r"sample_b has shape \(2,\)", lambda x: wasserstein(x, x, x, sample_b=torch.arange(2))),
        ("floating tensors", lambda x: wasserstein(x, x, x[:, :2])),
    ],
)
def test_bad_input_is_refused(message, call):
    with pytest.raises(ValueError, match=message):
        call(torch.randn(3, 4))
