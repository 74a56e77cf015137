"""The metrics against plain loops; ties never help, and saying nothing scores nothing."""

from __future__ import annotations

import math

import pytest
import torch

from align.metrics import (
    accuracy,
    accuracy_at,
    mean_average_precision,
    mean_reciprocal_rank,
    median_rank,
    ranks,
    recall,
    recall_at,
)


def table(q: int = 40, c: int = 23, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of a few values, so that many are equal, and some rows without a hit or with hits only."""
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randint(5, (q, c), generator=draw).double() / 4
    hits = torch.rand(q, c, generator=draw) < 0.2
    hits[0], hits[1], scores[2] = False, True, 0.5
    return scores, hits


def loop_rank(scores: list[float], hits: list[bool]) -> int:
    if not any(hits) or (len({*scores}) == 1 and not all(hits)):
        return 0
    best = max(s for s, hit in zip(scores, hits, strict=True) if hit)
    better = sum(s > best for s in scores)
    return 1 + better + sum(s == best and not hit for s, hit in zip(scores, hits, strict=True))


def loop_precision(scores: list[float], hits: list[bool]) -> float:
    if loop_rank(scores, hits) == 0:
        return 0.0
    order = sorted(range(len(scores)), key=lambda j: (-scores[j], hits[j]))
    found, total = 0, 0.0
    for place, j in enumerate(order, start=1):
        if hits[j]:
            found += 1
            total += found / place
    return total / found


@pytest.mark.parametrize("chunk", [1, 50, 1 << 22])
def test_equal_the_loops(chunk, monkeypatch):
    monkeypatch.setattr(recall, "CHUNK", chunk)
    scores, hits = table()
    rows = list(zip(scores.tolist(), hits.tolist(), strict=True))
    expected = [loop_rank(s, h) for s, h in rows]
    found = ranks(scores, hits)
    assert found.tolist() == expected
    assert expected[:3] == [0, 1, 0]
    for k in (1, 5, 10):
        assert recall_at(found, k) == sum(0 < r <= k for r in expected) / len(rows)
    assert mean_reciprocal_rank(found) == pytest.approx(sum(1 / r for r in expected if r) / len(rows), abs=1e-15)
    assert median_rank(found) == sorted(r or math.inf for r in expected)[(len(rows) - 1) // 2]
    assert mean_average_precision(scores, hits) == pytest.approx(
        sum(loop_precision(s, h) for s, h in rows) / len(rows), abs=1e-15
    )


def test_accuracy_is_the_strictly_best():
    scores = torch.tensor([[3.0, 1, 2], [2, 2, 1], [1, 2, 3], [0, 0, 0]])
    target = torch.tensor([0, 0, 1, 2])
    assert accuracy(scores, target) == 0.25
    assert accuracy_at(scores, target, 2) == 0.75  # the tie takes the second place; a constant row none
    assert accuracy_at(scores, target, 3) == 0.75


@pytest.mark.parametrize("value", [0.0, 1.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("candidates", [2, 7])
def test_a_constant_embedding_scores_nothing(value, candidates):
    scores = torch.full((6, candidates), value)
    hits = torch.arange(6)[:, None] % candidates == torch.arange(candidates)
    found = ranks(scores, hits)
    target = torch.arange(6) % candidates
    numbers = [recall_at(found, k) for k in (1, 5, 10)]
    numbers += [accuracy(scores, target), accuracy_at(scores, target, 5)]
    numbers += [mean_reciprocal_rank(found), mean_average_precision(scores, hits)]
    assert numbers == [0] * 7
    assert median_rank(found) == math.inf


def test_a_nan_never_helps():
    scores = torch.tensor([[math.nan, 0.5, 0.1], [0.9, math.nan, 0.1]])
    hits = torch.tensor([[True, False, False], [True, False, False]])
    assert ranks(scores, hits).tolist() == [3, 2]
    assert mean_average_precision(scores, hits) == pytest.approx((1 / 3 + 1 / 2) / 2)


def test_a_perfect_embedding_scores_one():
    scores, hits = torch.eye(5), torch.eye(5, dtype=torch.bool)
    assert recall_at(ranks(scores, hits), 1) == mean_average_precision(scores, hits) == 1
    assert median_rank(ranks(scores, hits)) == mean_reciprocal_rank(ranks(scores, hits)) == 1
    assert accuracy(scores, torch.arange(5)) == 1


def test_no_rows_and_no_candidates():
    none = ranks(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.bool))
    assert none.shape == (0,)
    assert math.isnan(recall_at(none, 1))
    assert math.isnan(median_rank(none))
    assert math.isnan(mean_average_precision(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.bool)))
    assert ranks(torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool)).tolist() == [0, 0]


def test_what_does_not_fit():
    with pytest.raises(ValueError, match=r"bool hits of one shape; got \(2, 3\) and \(3, 2\) of torch.bool"):
        ranks(torch.zeros(2, 3), torch.zeros(3, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"of torch\.int64"):
        mean_average_precision(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"targets are 0..2; got 0..3"):
        accuracy(torch.zeros(2, 3), torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="k is at least 1; got 0"):
        recall_at(torch.ones(2), 0)


@pytest.mark.parametrize("n", [2000, pytest.param(10_000, marks=pytest.mark.sweep)])
def test_thousands_by_thousands(n):
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (n,), generator=draw)
    scores = torch.rand(n, n, generator=draw)
    hits = labels[:, None] == labels[None, :]
    found = ranks(scores, hits)
    assert recall_at(found, 1) == pytest.approx(0.1, abs=0.02)
    assert mean_average_precision(scores[:2000], hits[:2000]) == pytest.approx(0.1, abs=0.01)
