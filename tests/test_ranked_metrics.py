"""Places, precision, reciprocal rank and nDCG of single queries, against trec_eval and against plain loops."""

from __future__ import annotations

import math

import pytest
import torch

from align.metrics import (
    Places,
    average_precisions,
    gain,
    graded_gains,
    hit_gains,
    hit_places,
    median_rank,
    places,
    ranks,
    reciprocal_ranks,
    weighted_median,
)


def table(c: int, values: int | None, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores on both sides of zero and levels 0..3 of 30 queries; values: how many scores there are, None for no tie.

    Query 0 has no hit, query 1 hits alone, query 2 one score, query 3 one score and one level.
    """
    draw = torch.Generator().manual_seed(seed)
    scores = torch.stack([torch.randperm(c, generator=draw) for _ in range(30)]).float() - c / 2
    levels = torch.randint(4, (30, c), generator=draw, dtype=torch.uint8)
    levels[torch.rand(30, c, generator=draw) < 0.7] = 0
    levels[0], levels[1] = 0, levels[1].clamp(min=1)
    if values is not None:
        scores = (scores % values) - values // 2
        scores[2] = scores[3] = -0.5
        levels[3] = 2
    return scores, levels


def trec(scores: torch.Tensor, levels: torch.Tensor) -> list[dict[str, float]]:
    """The numbers of trec_eval for each query. Those without a hit are judged by nobody and have zeros."""
    import pytrec_eval

    wanted = {f"q{i}": {f"d{j}": int(x) for j, x in enumerate(row)} for i, row in enumerate(levels.tolist())}
    found = {f"q{i}": {f"d{j}": x for j, x in enumerate(row)} for i, row in enumerate(scores.tolist())}
    measures = {"map", "recip_rank", "ndcg_cut.10", "success.1,5,10"}
    judged = pytrec_eval.RelevanceEvaluator(wanted, measures).evaluate(found)
    return [judged[f"q{i}"] for i in range(len(scores))]


@pytest.mark.parametrize("few", [0, 32])  # all rows by a sort, or those of few hits by comparisons
@pytest.mark.parametrize(("c", "values"), [(23, None), (700, None), (23, 5), (700, 40)])
def test_single_queries_are_those_of_trec_eval(c, values, few, monkeypatch):
    """With ties too, where each hit gets a little less than its equals: the worst order that they allow."""
    pytest.importorskip("pytrec_eval")
    monkeypatch.setattr(places, "FEW", few)
    scores, levels = table(c, values)
    hits = levels > 0
    binary = trec(scores - 0.25 * hits, hits)
    graded = trec(scores - 0.0625 * levels, levels)
    found = hit_places(scores, hits)
    rank = found.rank
    assert rank.equal(ranks(scores, hits))
    dead = {2} if values is not None else set()  # one score for all: nothing is found, whatever the order is
    for i in range(30):
        ours = {f"success_{k}": float(0 < rank[i] <= k) for k in (1, 5, 10)}
        ours |= {"map": float(average_precisions(found)[i]), "recip_rank": float(reciprocal_ranks(rank)[i])}
        ours["ndcg_cut_10"] = float(hit_gains(found, 10)[i])
        expected = {key: 0.0 if i in dead else binary[i][key] for key in ours}
        assert ours == pytest.approx(expected, abs=1e-12), i
    for got, of in ((graded_gains(scores, levels, 10), graded), (graded_gains(scores, hits.byte(), 10), binary)):
        expected = [0.0 if i in dead else row["ndcg_cut_10"] for i, row in enumerate(of)]
        assert got.tolist() == pytest.approx(expected, abs=1e-12)


def loop_gain(scores: list[float], levels: list[int], k: int) -> float:
    order = sorted(range(len(scores)), key=lambda j: (-scores[j], levels[j]))
    total = sum(levels[j] / math.log2(place + 1) for place, j in enumerate(order[:k], start=1))
    best = sum(x / math.log2(place + 1) for place, x in enumerate(sorted(levels, reverse=True)[:k], start=1))
    return total / best if best else 0.0


@pytest.mark.parametrize("k", [1, 3, 50])
def test_gains_are_the_plain_loop(k, monkeypatch):
    monkeypatch.setattr(gain, "BLOCK", 4)
    scores, levels = table(23, 5)
    rows = zip(scores.tolist(), levels.tolist(), strict=True)
    expected = [0.0 if i == 2 else loop_gain(s, x, k) for i, (s, x) in enumerate(rows)]
    assert graded_gains(scores, levels, k).tolist() == pytest.approx(expected, abs=1e-12)


def test_a_nan_is_the_worst_of_a_hit_and_the_best_of_another():
    nan = math.nan
    scores = torch.tensor([[nan, 0.5, 0.1, 0.0], [0.9, nan, 0.1, 0.0], [nan, nan, nan, nan]])
    hits = torch.tensor([[True, False, False, False]] * 3)
    found = hit_places(scores, hits)
    assert found.rank.tolist() == ranks(scores, hits).tolist() == [4, 2, 0]
    assert graded_gains(scores, hits.byte(), 4).tolist() == pytest.approx([1 / math.log2(5), 1 / math.log2(3), 0])


def test_candidates_in_no_list():
    """What is skipped takes no place, and a row whose listed scores are all the same has found nothing."""
    scores = torch.tensor([[-math.inf, 3.0, 2.0, 1.0], [1.0, -math.inf, 1.0, 1.0], [1.0, 1.0, -math.inf, 1.0]])
    hits = torch.tensor([[False, False, False, True], [True, False, False, False], [True, True, False, True]])
    skip = torch.eye(3, 4, dtype=torch.bool)
    found = hit_places(scores, hits, skip)
    assert found.rank.tolist() == ranks(scores, hits, skip).tolist() == [3, 0, 1]
    assert found.hits.tolist() == [1, 1, 3]
    assert average_precisions(found).tolist() == pytest.approx([1 / 3, 0, 1])
    gains = graded_gains(scores, hits.byte(), 3, skip)
    assert gains.tolist() == hit_gains(found, 3).tolist() == pytest.approx([0.5, 0, 1])


def test_levels_of_one_score_say_nothing():
    scores, levels = torch.zeros(2, 5), torch.tensor([[1, 2, 1, 2, 1], [2, 2, 2, 2, 2]], dtype=torch.uint8)
    assert graded_gains(scores, levels, 3).tolist() == [0, 1]


def test_no_rows_and_no_candidates():
    for q, c in ((0, 3), (2, 0)):
        found = hit_places(torch.zeros(q, c), torch.zeros(q, c, dtype=torch.bool))
        assert isinstance(found, Places)
        assert found.rank.tolist() == average_precisions(found).tolist() == hit_gains(found, 10).tolist() == [0] * q
        assert graded_gains(torch.zeros(q, c), torch.zeros(q, c, dtype=torch.uint8), 10).tolist() == [0] * q
    with pytest.raises(ValueError, match="bool hits of one shape"):
        hit_places(torch.zeros(2, 3), torch.zeros(3, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="k is at least 1; got 0"):
        graded_gains(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.uint8), 0)


def test_the_weighted_median_is_the_median_of_copies():
    draw = torch.Generator().manual_seed(0)
    values = torch.randint(1, 40, (17,), generator=draw).float()
    weights = torch.randint(4, (25, 17), generator=draw).double()
    copies = [
        sorted(v for v, w in zip(values.tolist(), row, strict=True) for _ in range(int(w))) for row in weights.tolist()
    ]
    assert weighted_median(values, weights).tolist() == [row[(len(row) - 1) // 2] for row in copies]
    for n in (1, 2, 17):
        assert float(weighted_median(values[:n], torch.ones(1, n).double())) == median_rank(values[:n])
