"""Counts of k-occurrences and their shape, against plain loops and SciPy, with ties, in a constant space, and NaN."""

from __future__ import annotations

import pytest
import torch

from align.metrics import (
    antihub_share,
    count_occurrences,
    find_nearest,
    hub_bound,
    hub_share,
    robin_hood,
    skewness,
)


def scores(q=40, c=15, seed=0, levels=0):
    found = torch.randn(q, c, generator=torch.Generator().manual_seed(seed))
    return (found * levels).round() / levels if levels else found


def loop(table, k):
    """N_k by the definition: a candidate is listed where at most k candidates score as high."""
    counts = [0] * len(table[0])
    for row in table.tolist():
        for place, value in enumerate(row):
            if sum(other >= value for other in row) <= k:
                counts[place] += 1
    return counts


@pytest.mark.parametrize("levels", [0, 1, 3], ids=["no ties", "many ties", "some ties"])
@pytest.mark.parametrize("k", [1, 4, 14])
def test_counts_are_those_of_a_loop(levels, k):
    table = scores(levels=levels)
    nearest = find_nearest(table, k)
    assert nearest.shape == (40, k)
    assert count_occurrences(nearest, 15).tolist() == loop(table, k)


def test_shapes_are_those_of_scipy_and_of_loops():
    from scipy.stats import skew

    counts = count_occurrences(find_nearest(scores(200, 30) + torch.linspace(-1, 2, 30), 5), 30)
    assert float(skewness(counts)) == pytest.approx(skew(counts.numpy()), abs=1e-12)
    assert float(skewness(counts)) > 0.5
    x = [float(n) for n in counts]
    mean = sum(x) / len(x)
    assert float(antihub_share(counts)) == sum(n == 0 for n in x) / 30
    spread = (sum((n - mean) ** 2 for n in x) / len(x)) ** 0.5
    assert hub_bound(counts) == pytest.approx(mean + 2 * spread)
    assert float(hub_share(counts)) == pytest.approx(sum(n > mean + 2 * spread for n in x) / 30)
    assert float(hub_share(counts)) > 0
    assert float(robin_hood(counts)) == pytest.approx(sum(abs(n - mean) for n in x) / (2 * sum(x)))


def test_robin_hood_is_the_share_of_places_that_would_have_to_move():
    assert float(robin_hood(torch.tensor([5, 5, 5, 5]))) == 0
    assert float(robin_hood(torch.tensor([20, 0, 0, 0]))) == 0.75  # 15 of 20 places go to the other three


def test_weights_are_how_often_a_candidate_was_drawn():
    counts = torch.tensor([0, 3, 1, 1, 12, 0])
    weights = torch.tensor([[1, 1, 1, 1, 1, 1], [2, 0, 1, 3, 0, 1], [0, 0, 1, 0, 4, 2]])
    for shape in (skewness, antihub_share, hub_share, robin_hood):
        expected = [float(shape(counts.repeat_interleave(row))) for row in weights]
        assert shape(counts, weights.double()).tolist() == pytest.approx(expected, abs=1e-12)
        assert float(shape(counts)) == pytest.approx(expected[0])


def test_nothing_occurs_in_a_constant_space():
    counts = count_occurrences(find_nearest(torch.full((9, 6), 0.25), 3), 6)
    assert counts.tolist() == [0] * 6
    shapes = {shape.__name__: float(shape(counts)) for shape in (skewness, antihub_share, hub_share, robin_hood)}
    assert shapes == {"skewness": 0, "antihub_share": 1, "hub_share": 0, "robin_hood": 0}


def test_equal_candidates_at_the_border_are_in_no_list():
    assert count_occurrences(find_nearest(torch.tensor([[0.9, 0.5, 0.5, 0.1]]), 2), 4).tolist() == [1, 0, 0, 0]
    assert count_occurrences(find_nearest(torch.tensor([[0.9, 0.5, 0.5, 0.1]]), 3), 4).tolist() == [1, 1, 1, 0]


def test_a_nan_is_worse_than_any_number():
    table = torch.tensor([[0.1, float("nan"), -3.0, 0.2]])
    assert count_occurrences(find_nearest(table, 3), 4).tolist() == [1, 0, 1, 1]
    assert count_occurrences(find_nearest(torch.full((2, 4), float("nan")), 3), 4).tolist() == [0] * 4


def test_the_order_of_candidates_changes_nothing():
    table, order = scores(levels=2), torch.randperm(15, generator=torch.Generator().manual_seed(1))
    first = count_occurrences(find_nearest(table, 4), 15)
    assert count_occurrences(find_nearest(table[:, order], 4), 15).tolist() == first[order].tolist()


@pytest.mark.parametrize(("k", "says"), [(0, "k is at least 1"), (15, "need more than 15 candidates")])
def test_a_k_that_does_not_fit(k, says):
    with pytest.raises(ValueError, match=says):
        find_nearest(scores(), k)
