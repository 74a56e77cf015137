"""hinge against a plain loop over triplets."""

from __future__ import annotations

import pytest
import torch
from test_infonce import equal, ragged, rows

from align.losses import Hinge, hinge


def loop(
    a, b, sample_a, sample_b, margin=0.2, negatives="hardest", sides="both", group_a=None, group_b=None, **weights
):
    """One anchor after the other, one positive after the other, one negative after the other."""
    directions = []
    for side, x, y, sx, sy, gx, gy, w in (
        ("a", a, b, sample_a, sample_b, group_a, group_b, weights.get("weight_a")),
        ("b", b, a, sample_b, sample_a, group_b, group_a, weights.get("weight_b")),
    ):
        total, count = 0.0, 0.0
        for i in range(len(x)):
            own = [j for j in range(len(y)) if sx[i] >= 0 and sx[i] == sy[j]]
            if not own:
                continue
            alike = [gx is not None and gx[i] >= 0 and gx[i] == gy[j] for j in range(len(y))]
            others = [j for j in range(len(y)) if j not in own and not alike[j]]
            cost = 0.0
            for p in own:
                hinges = [torch.clamp(margin - (x[i] * y[p]).sum() + (x[i] * y[k]).sum(), min=0) for k in others]
                if hinges:
                    cost = cost + (max(hinges) if negatives == "hardest" else sum(hinges))
            weight = 1.0 if w is None else w[i]
            total = total + weight * cost / len(own)
            count = count + weight
        if sides in ("both", side):
            directions.append(total / count if count else 0.0)
    return sum(directions) / len(directions)


@pytest.mark.parametrize("negatives", ["hardest", "sum"])
@pytest.mark.parametrize("sides", ["both", "a", "b"])
@pytest.mark.parametrize("extra", [(), ("group_a", "group_b"), ("weight_a", "weight_b"), ("weight_a",)])
def test_equals_the_loop(negatives, sides, extra):
    a, b = rows(6, 8)
    more = {name: ragged[name] for name in ("sample_a", "sample_b", *extra)}
    got = hinge(a, b, margin=0.5, negatives=negatives, sides=sides, **more)
    equal(got, loop(a, b, margin=0.5, negatives=negatives, sides=sides, **more), [a, b])


def test_one_triplet_by_hand():
    a = torch.tensor([[1.0, 0.0]])
    b = torch.tensor([[0.6, 0.8], [0.8, 0.6], [0.0, 1.0]])
    ids = {"sample_a": torch.tensor([3]), "sample_b": torch.tensor([3, 1, -1])}
    assert hinge(a, b, margin=0.5, sides="a", **ids).item() == pytest.approx(0.5 - 0.6 + 0.8)
    assert hinge(a, b, margin=0.7, negatives="sum", sides="a", **ids).item() == pytest.approx(0.9 + 0.1)
    assert hinge(a, b, margin=0.5, sides="b", **ids).item() == 0  # b's only own row has no rival in a
    all_alike = {"group_a": torch.tensor([2]), "group_b": torch.tensor([2, 2, 2])}
    assert hinge(a, b, margin=0.5, **ids, **all_alike).item() == 0


@pytest.mark.parametrize(
    ("n_a", "n_b", "ids"),
    [(0, 0, None), (0, 3, None), (3, 0, None), (2, 3, ([0, 1], [2, 3, 4])), (2, 2, ([-1, -1], [-1, -1]))],
)
@pytest.mark.parametrize("negatives", ["hardest", "sum"])
def test_nothing_pairs(n_a, n_b, ids, negatives):
    a, b = rows(n_a, n_b)
    more = {} if ids is None else {"sample_a": torch.tensor(ids[0]), "sample_b": torch.tensor(ids[1])}
    loss = hinge(a, b, negatives=negatives, **more)
    assert (loss.item(), loss.shape) == (0, ())
    for x, grad in zip((a, b), torch.autograd.grad(loss, [a, b]), strict=True):
        assert torch.equal(grad, torch.zeros_like(x))


def test_similarities_are_float32_at_least():
    a, b = (x.detach().bfloat16() for x in rows(16, 16, dim=64))
    with torch.autocast("cpu", torch.bfloat16):
        low = hinge(a, b)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, hinge(a.double(), b.double()).float())


def test_the_module_is_the_function():
    a, b = rows(6, 8)
    pairs = [[ragged[f"{name}_{side}"] for side in "ab"] for name in ("sample", "group", "weight")]
    got = Hinge(0.4, "sum", "b")([a, b], pairs[0], groups=pairs[1], weights=pairs[2])
    assert torch.equal(got, hinge(a, b, margin=0.4, negatives="sum", sides="b", **ragged))


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("margin is a number of at least 0; got -1", {"margin": -1.0}),
        ("negatives is 'hardest' or 'sum'; got 'all'", {"negatives": "all"}),
        ("sides is 'both', 'a' or 'b'; got 'image'", {"sides": "image"}),
    ],
)
def test_what_does_not_fit(message, change):
    a, b = rows(3, 3)
    with pytest.raises(ValueError, match=message):
        hinge(a, b, **change)
    with pytest.raises(ValueError, match=message):
        Hinge(**change)
    with pytest.raises(ValueError, match="only group_b was given"):
        hinge(a, b, group_b=torch.arange(3))
