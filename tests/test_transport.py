"""sinkhorn against scaling in a plain loop and against every assignment; transport against a loop over rows."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from token_rows import Largest, contrast_loop, ragged, token_rows

from align.losses import Transport, sinkhorn, transport


def scaling(cost, mask_a, mask_b, epsilon, steps):
    """Cuturi's two scalings of exp(-C / epsilon), the masked tokens cut away: the plan of the rest and its cost."""
    C = cost[mask_a][:, mask_b]
    n, m = C.shape
    K = torch.exp(-C / epsilon)
    right = torch.ones(m, dtype=C.dtype)
    for _ in range(steps):
        left = torch.stack([1 / sum(K[i, j] * right[j] / m for j in range(m)) for i in range(n)])
        right = torch.stack([1 / sum(K[i, j] * left[i] / n for i in range(n)) for j in range(m)])
    plan = left[:, None] * K * right / (n * m)
    return plan, epsilon * (left.log().sum() / n + right.log().sum() / m)


def costs(*batch: int, L_a: int = 4, L_b: int = 3, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(*batch, L_a, L_b, dtype=torch.float64, generator=draw)


masks = torch.tensor([[1, 0, 1, 1], [1, 1, 1, 1], [0, 0, 1, 0]]).bool(), torch.tensor([[1, 1, 1], [0, 1, 1], [1, 0, 1]])


def test_sinkhorn_equals_the_scalings():
    mask_a, mask_b = masks[0], masks[1].bool()
    cost = costs(3).requires_grad_()
    value, plan = sinkhorn(cost, mask_a, mask_b, epsilon=0.3, steps=7)
    assert (value.shape, plan.shape, plan.requires_grad) == ((3,), (3, 4, 3), False)
    for i in range(3):
        expected, dual = scaling(cost[i].detach(), mask_a[i], mask_b[i], 0.3, 7)
        torch.testing.assert_close(plan[i][mask_a[i]][:, mask_b[i]], expected, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(value[i], dual, rtol=1e-12, atol=1e-14)
    assert plan[~(mask_a[:, :, None] & mask_b[:, None])].abs().max() == 0
    torch.testing.assert_close(torch.autograd.grad(value.sum(), cost)[0], plan, rtol=1e-12, atol=1e-15)


def test_the_plan_has_the_marginals_and_the_value_is_its_entropic_cost():
    mask_a, mask_b = masks[0], masks[1].bool()
    cost = costs(3)
    value, plan = sinkhorn(cost, mask_a, mask_b, epsilon=0.2, steps=300)
    mu, nu = (m / m.sum(1, keepdim=True).double() for m in (mask_a, mask_b))
    torch.testing.assert_close(plan.sum(2), mu, rtol=0, atol=1e-12)
    torch.testing.assert_close(plan.sum(1), nu, rtol=0, atol=1e-12)
    apart = mu[:, :, None] * nu[:, None]
    entropy = torch.where(plan > 0, plan * (plan / apart.clamp(min=1e-300)).log(), 0).sum((1, 2))
    torch.testing.assert_close(value, (plan * cost).sum((1, 2)) + 0.2 * entropy, rtol=0, atol=1e-12)
    one_step = sinkhorn(cost, mask_a, mask_b, epsilon=0.2, steps=1)[1]
    torch.testing.assert_close(one_step.sum(1), nu, rtol=0, atol=1e-14)  # b's are exact after any step


def test_once_converged_the_gradient_is_the_derivative_of_the_value():
    cost = costs(seed=4).requires_grad_()
    mask_a, mask_b = torch.tensor([1, 1, 0, 1]).bool(), torch.ones(3).bool()
    assert torch.autograd.gradcheck(lambda c: sinkhorn(c, mask_a, mask_b, epsilon=0.3, steps=200)[0], cost)


def test_a_small_epsilon_is_the_best_assignment_and_a_large_one_the_mean():
    cost = costs(5, L_a=4, L_b=4)
    best = [min(sum(c[i, p[i]] for i in range(4)) / 4 for p in itertools.permutations(range(4))) for c in cost]
    gap = [(sinkhorn(cost, epsilon=e, steps=2000)[0] - torch.stack(best)).abs().max() for e in (0.1, 0.01, 0.001)]
    assert gap[0] > gap[1] > gap[2]
    assert gap[2] < 0.001 * math.log(4) + 1e-6  # KL against the product is at most log 4
    torch.testing.assert_close(sinkhorn(cost, epsilon=1e6)[0], cost.mean((1, 2)), rtol=1e-6, atol=0)


def test_half_the_tokens_can_be_split():
    cost = torch.tensor([[0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 1.0]])  # each of two tokens serves two of four
    value, plan = sinkhorn(cost, epsilon=0.01, steps=50)
    torch.testing.assert_close(plan, (1 - cost) / 4)
    assert value.item() == pytest.approx(0.01 * math.log(2), abs=1e-5)  # the cost is 0, the divergence log 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("epsilon", [1e-6, 0.1, 1e6])
def test_extremes_are_finite(dtype, epsilon):
    for cost in (costs(2) * 1e4, torch.zeros(2, 4, 3), -costs(2), torch.full((2, 4, 3), 2.0)):
        cost = cost.to(dtype).requires_grad_()
        value, plan = sinkhorn(cost, torch.tensor([[1, 0, 0, 0], [0] * 4]).bool(), epsilon=epsilon)
        (grad,) = torch.autograd.grad(value.sum(), cost)
        assert all(x.isfinite().all() for x in (value, plan, grad))
        assert value.dtype == torch.promote_types(dtype, torch.float32)
        assert value[1] == 0  # one side has no token
        assert plan[1].abs().max() == grad[1].abs().max() == 0


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("epsilon, the entropy's weight in the cost's units, is above 0; got 0", {"epsilon": 0}),
        ("steps, the updates of each potential, is at least 1; got 0", {"steps": 0}),
        (r"mask_a is \(3,\) of torch.bool; a cost of \(4, 3\) needs \(4,\)", {"mask_a": torch.ones(3).bool()}),
        (r"mask_b is \(3,\) of torch.int64; .* of torch.bool", {"mask_b": torch.ones(3).long()}),
    ],
)
def test_what_sinkhorn_refuses(message, change):
    with pytest.raises(ValueError, match=message):
        sinkhorn(costs(), **change)


def loop(a, b, scale, mask_a, mask_b, negatives="all", epsilon=0.1, steps=20, **more):
    alive = [[bool(row.any()) for row in mask] for mask in (mask_a, mask_b)]
    W = [[torch.tensor(0.0, dtype=a.dtype) for _ in b] for _ in a]
    for i, j in itertools.product(range(len(a)), range(len(b))):
        if alive[0][i] and alive[1][j]:
            C = torch.stack([torch.stack([1 - (x * y).sum() for y in b[j]]) for x in a[i]])
            plan, value = scaling(C.detach(), mask_a[i], mask_b[j], epsilon, steps)
            pull = (plan * C[mask_a[i]][:, mask_b[j]]).sum()
            W[i][j] = value + pull - pull.detach()  # the value, with the plan as its gradient
    sample_a, sample_b = more.pop("sample_a"), more.pop("sample_b")
    if negatives == "all":
        there = [[-scale * W[i][j] for j in range(len(b))] for i in range(len(a))]
        back = [[-scale * W[i][j] for i in range(len(a))] for j in range(len(b))]
        return contrast_loop(there, back, sample_a, sample_b, *alive, **more)
    total = 0.0
    pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if alive[0][i] and alive[1][j]]
    pairs = [(i, j) for i, j in pairs if sample_a[i] >= 0 and sample_a[i] == sample_b[j]]
    for side, weight in enumerate(more.get(name) for name in ("weight_a", "weight_b")):
        own = {row: [W[i][j] for i, j in pairs if (i, j)[side] == row] for row in {pair[side] for pair in pairs}}
        weights = {row: 1.0 if weight is None else weight[row] for row in own}
        total = total + sum(weights[r] * sum(own[r]) / len(own[r]) for r in own) / sum(weights.values())
    return total / 2


def equal(got, expected, inputs):
    assert got.shape == ()
    torch.testing.assert_close(got, expected.reshape(()), rtol=0, atol=1e-12)
    grads = zip(torch.autograd.grad(got, inputs), torch.autograd.grad(expected, inputs), strict=True)
    for mine, theirs in grads:
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("chunk", [None, 1, 12])
@pytest.mark.parametrize("extra", [(), ("group_a", "group_b"), ("weight_a", "weight_b")])
def test_all_pairs_equal_the_loop(chunk, extra):
    (a, mask_a), (b, mask_b) = token_rows(7, 4, dead=6), token_rows(8, 3, seed=1, dead=1)
    scale = torch.tensor([7.0], dtype=torch.float64, requires_grad=True)
    more = {name: ragged[name] for name in ("sample_a", "sample_b", *extra)}
    given = {**more, "epsilon": 0.2, "steps": 4}
    got = transport(a, b, scale, mask_a=mask_a, mask_b=mask_b, chunk=chunk, **given)
    equal(got, loop(a, b, scale, mask_a, mask_b, **given), [a, b, scale])


@pytest.mark.parametrize("extra", [(), ("weight_a", "weight_b")])
def test_matching_pairs_equal_the_loop(extra):
    (a, mask_a), (b, mask_b) = token_rows(7, 4, dead=6), token_rows(8, 3, seed=1, dead=1)
    scale = torch.ones(1, requires_grad=True)
    given = {name: ragged[name] for name in ("sample_a", "sample_b", *extra)} | {"negatives": "none", "steps": 5}
    got = transport(a, b, scale, mask_a=mask_a, mask_b=mask_b, **given)
    equal(got, loop(a, b, 1.0, mask_a, mask_b, **given), [a, b])
    assert torch.autograd.grad(transport(a, b, scale, **given), scale)[0].item() == 0


@pytest.mark.sweep
def test_gradcheck_once_converged():
    (a, mask_a), (b, mask_b) = token_rows(2, 2, dim=3), token_rows(3, 2, dim=3, seed=1)
    for negatives in ("all", "none"):
        assert torch.autograd.gradcheck(
            lambda x, y, n=negatives: transport(
                x, y, 3.0, mask_a=mask_a, mask_b=mask_b, negatives=n, epsilon=0.5, steps=100, chunk=2
            ),
            (a, b),
        )


@pytest.mark.parametrize("negatives", ["all", "none"])
@pytest.mark.parametrize(("n_a", "n_b", "ids"), [(0, 3, None), (3, 0, None), (2, 2, [5, 6]), (2, 2, None)])
def test_nothing_pairs(negatives, n_a, n_b, ids):
    (a, _), (b, _) = token_rows(n_a, 4), token_rows(n_b, 3, seed=1)
    scale = torch.ones(1, requires_grad=True)
    dead = torch.zeros(n_a, 4, dtype=torch.bool) if ids is None else None  # every token masked
    given = {"mask_a": dead, "sample_b": None if ids is None else torch.tensor(ids), "negatives": negatives}
    loss = transport(a, b, scale, **given)
    assert loss.item() == 0
    for x, grad in zip((a, b, scale), torch.autograd.grad(loss, [a, b, scale]), strict=True):
        assert torch.equal(grad, torch.zeros_like(x))


@pytest.mark.parametrize("negatives", ["all", "none"])
@pytest.mark.parametrize("epsilon", [1e-5, 10.0])
def test_same_and_opposite_tokens_have_finite_gradients(negatives, epsilon):
    one = F.normalize(torch.ones(3, 4, 5), dim=-1)
    for a, b in ((one, one), (one, -one), (one, 0 * one), (one.bfloat16(), -one.bfloat16())):
        a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
        loss = transport(a, b, 100.0, negatives=negatives, epsilon=epsilon)
        assert loss.dtype == torch.float32
        assert all(x.isfinite().all() for x in (loss, *torch.autograd.grad(loss, [a, b])))


def test_no_tensor_is_larger_than_a_tile():
    n, L = 24, 10
    (a, _), (b, _) = token_rows(n, L), token_rows(n, L, seed=1)
    with Largest() as made:
        transport(a, b, 5.0, chunk=16, steps=2).backward()
    assert made.numel == 16 * L * L  # all costs were n² L² = 57,600


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("negatives is 'all' or 'none'; got 'some'", {"negatives": "some"}),
        ("epsilon, .* is above 0; got -1", {"epsilon": -1.0}),
        ("steps, .* is at least 1; got 0", {"steps": 0}),
        (r"chunk, .* is at least 1; got 0", {"chunk": 0}),
        (r"positives is 'mean', 'inside' or 'sum'; got 'max'", {"positives": "max"}),
        (r"mask_b is \(4, 2\) of torch.bool; its tokens need \(4, 3\)", {"mask_b": torch.ones(4, 2).bool()}),
    ],
)
def test_what_does_not_fit(message, change):
    (a, _), (b, _) = token_rows(4, 3), token_rows(4, 3, seed=1)
    with pytest.raises(ValueError, match=message):
        transport(**({"tokens_a": a, "tokens_b": b, "scale": 1.0} | change))
    options = {name: value for name, value in change.items() if name != "mask_b"}
    if options:
        with pytest.raises(ValueError, match=message):
            Transport(**options)


@pytest.mark.parametrize("negatives", ["all", "none"])
def test_the_module_is_the_function(negatives):
    (a, mask_a), (b, mask_b) = token_rows(7, 4), token_rows(8, 3, seed=1)
    pooled = [x.mean(1).detach().requires_grad_() for x in (a, b)]
    given = {"negatives": negatives, "epsilon": 0.2, "steps": 3, "positives": "sum", "chunk": 7}
    loss = Transport(**given, start_scale=5.0, max_scale=8.0, learn_scale=False).double()
    loss.start(dim=5, modalities=2, batch=8)
    got = loss(
        pooled,
        [ragged["sample_a"], ragged["sample_b"]],
        tokens=[(a, mask_a), (b, mask_b)],
        groups=[ragged["group_a"], ragged["group_b"]],
        weights=[ragged["weight_a"], ragged["weight_b"]],
    )
    assert torch.equal(got, transport(a, b, loss.scale, mask_a=mask_a, mask_b=mask_b, **given, **ragged))
    for grad in torch.autograd.grad(got, pooled):
        assert grad.abs().max() == 0
    assert (loss.kind, loss.needs_tokens, loss.bias, loss.limit) == ("tokens", True, None, 8.0)
