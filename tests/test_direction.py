"""The direction between two prompts: a plain loop, its weights in a search, and bad input."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from align.scoring import add_direction, score, weigh_direction


def rows(n, seed, d=5):
    return 3 * torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def unit(x):
    length = math.sqrt(sum(v * v for v in x))
    return [v / length for v in x]


@pytest.mark.parametrize(("scale", "balance"), [(1.0, 0.5), (0.4, 0.0), (1.7, 1.0), (-1.0, 0.2), (0.0, 0.3)])
def test_a_query_is_that_of_a_plain_loop(scale, balance):
    reference, before, after = rows(4, 0), rows(4, 1), rows(4, 2)
    found = add_direction(reference, before, after, scale=scale, balance=balance)
    for i in range(4):
        x, first, last = (unit(rows[i].tolist()) for rows in (reference, before, after))
        image = [a + scale * (c - b) for a, b, c in zip(x, first, last, strict=True)]
        text = [b + scale * (c - b) for b, c in zip(first, last, strict=True)]
        both = unit([(1 - balance) * a + balance * b for a, b in zip(image, text, strict=True)])
        torch.testing.assert_close(found[i], torch.tensor(both))


def test_one_pair_of_prompts_serves_all_rows():
    reference, before, after = rows(3, 0), rows(1, 1)[0], rows(1, 2)[0]
    every = add_direction(reference, before.expand(3, -1), after.expand(3, -1))
    torch.testing.assert_close(add_direction(reference, before, after), every)
    assert add_direction(rows(0, 0), before, after).shape == (0, 5)
    assert add_direction(reference.bfloat16(), before, after).dtype == torch.float32


def test_scale_0_and_balance_0_change_nothing():
    reference = rows(3, 0)
    found = add_direction(reference, rows(3, 1), rows(3, 2), scale=0, balance=0)
    torch.testing.assert_close(found, F.normalize(reference, dim=1))


def test_weights_of_cosines_order_as_the_query_does():
    """A search adds cosines by these weights, so it needs no vector of its own."""
    reference, before, after, candidates = rows(4, 0), rows(4, 1), rows(4, 2), F.normalize(rows(9, 3), dim=1)
    a, b, c = weigh_direction(1.3, 0.4)
    cosines = [score({"x": x}, candidates) for x in (reference, after, before)]
    total = a * cosines[0] + b * cosines[1] + c * cosines[2]
    query = add_direction(reference, before, after, scale=1.3, balance=0.4)
    assert torch.equal(total.argsort(1), (query @ candidates.T).argsort(1))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"balance": 1.1}, "balance is 0, the reference alone, to 1, the prompts alone; got 1.1"),
        ({"scale": math.inf}, "the scale of a direction is a finite number; got inf"),
        ({"before": rows(2, 1)}, r"before is \(D,\) or one row for each of the reference's \(3, 5\); got \(2, 5\)"),
        ({"after": rows(3, 1, 4)}, r"after is \(D,\) or one row"),
        ({"reference": rows(1, 1)[0]}, r"a direction is added to rows \(n, D\); got \(5,\)"),
    ],
)
def test_bad_input_is_one_line(change, says):
    given = {"reference": rows(3, 0), "before": rows(3, 1), "after": rows(3, 2)} | change
    with pytest.raises(ValueError, match=says):
        add_direction(**given)
