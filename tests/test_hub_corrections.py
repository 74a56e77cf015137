"""Corrections for hubs: each by its formula in a plain loop, on planted hubs, and in tiles."""

from __future__ import annotations

import math

import planted
import pytest
import torch

from align.metrics import count_occurrences, find_nearest, ranks, recall_at, skewness
from align.scoring import Correction, bank, correct, cosine_unit, repairs
from align.scoring.bank import Bank
from align.values import TermInfo

NAMES = ("nnn", "inverted_softmax", "qb_norm", "dual_bank", "sinkhorn")


def random(n, seed, d=6):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def made(name, given, gallery, **options):
    if name == "dual_bank":
        return repairs.dual_bank(given, gallery, **options)
    return getattr(repairs, name)(given, **options)


def softmax_loop(table, beta):
    """log Σ exp(β s) of each column, over β."""
    return [math.log(sum(math.exp(beta * row[j]) for row in table)) / beta for j in range(len(table[0]))]


@pytest.fixture
def small():
    return random(9, 0), random(5, 1), random(7, 2)


@pytest.mark.parametrize(("k", "alpha"), [(3, 0.75), (1, 0.5), (128, 0.75)])
def test_nnn_is_its_formula(small, k, alpha):
    queries, candidates, _ = small
    found = repairs.nnn(Bank(queries, candidates, planted.cosines), k=k, alpha=alpha)
    table = planted.cosines(queries.double(), candidates.double()).tolist()
    for j in range(5):
        best = sorted((row[j] for row in table), reverse=True)[:k]
        assert float(found.shift[j]) == pytest.approx(alpha * sum(best) / len(best), abs=1e-6)
    assert found.settings["k"] == min(k, 9)


def test_the_inverted_softmax_orders_as_its_formula(small):
    queries, candidates, _ = small
    asked = random(20, 3)
    table = planted.cosines(queries.double(), candidates.double()).tolist()
    scores = planted.cosines(asked.double(), candidates.double())
    found = correct(scores, repairs.inverted_softmax(Bank(queries, candidates, planted.cosines), sharpness=7.0))
    for row, fixed in zip(scores.tolist(), found.tolist(), strict=True):
        formula = [math.exp(7 * s) / sum(math.exp(7 * other[j]) for other in table) for j, s in enumerate(row)]
        assert [math.exp(7 * s) for s in fixed] == pytest.approx(formula, rel=1e-5)


def test_qb_norm_counts_where_the_best_candidate_is_active(small):
    queries, candidates, _ = small
    asked = random(30, 4)
    found = repairs.qb_norm(Bank(queries, candidates, planted.cosines), sharpness=20.0)
    table = planted.cosines(queries.double(), candidates.double())
    active = {max(range(5), key=row.__getitem__) for row in table.tolist()}
    assert found.active is not None
    assert set(found.active.nonzero()[:, 0].tolist()) == active
    assert 0 < len(active) < 5
    scores = planted.cosines(asked.double(), candidates.double())
    shift, seen = softmax_loop(table.tolist(), 20.0), set()
    for row, fixed in zip(scores.tolist(), correct(scores, found).tolist(), strict=True):
        counts = max(range(5), key=row.__getitem__) in active
        seen.add(counts)
        assert fixed == pytest.approx([s - x for s, x in zip(row, shift, strict=True)] if counts else row, abs=1e-6)
    assert seen == {True, False}


def test_candidates_that_tie_are_active_together():
    """Two equal candidates are the bank's best, in whatever order they stand."""
    candidates = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    found = repairs.qb_norm(Bank(torch.tensor([[1.0, 0.1]]), candidates, planted.cosines))
    assert found.active is not None
    assert found.active.tolist() == [True, False, True]
    scores = torch.tensor([[0.5, 0.1, 0.5], [0.1, 0.5, 0.2]])
    only_last = Correction("x", torch.tensor([1.0, 2.0, 3.0]), torch.tensor([False, False, True]))
    assert correct(scores, only_last).tolist() == [[-0.5, pytest.approx(-1.9), -2.5], pytest.approx([0.1, 0.5, 0.2])]


def test_dual_bank_is_the_product_of_two_inverted_softmaxes(small):
    queries, candidates, gallery = small
    found = repairs.dual_bank(Bank(queries, candidates, planted.cosines), gallery, sharpness=5.0)
    first = planted.cosines(queries.double(), candidates.double()).tolist()
    second = planted.cosines(gallery.double(), candidates.double()).tolist()
    for row in planted.cosines(random(10, 5).double(), candidates.double()).tolist():
        product = [
            math.exp(5 * s)
            / sum(math.exp(5 * other[j]) for other in first)
            * math.exp(5 * s)
            / sum(math.exp(5 * other[j]) for other in second)
            for j, s in enumerate(row)
        ]
        fixed = [math.exp(10 * float(s)) for s in correct(torch.tensor([row]), found)[0]]
        assert fixed == pytest.approx(product, rel=1e-4)


def test_sinkhorn_makes_rows_and_columns_equal(small):
    queries, candidates, _ = small
    found = repairs.sinkhorn(Bank(queries, candidates, planted.cosines), sharpness=4.0, steps=200)
    kernel = torch.exp(4 * correct(planted.cosines(queries.double(), candidates.double()), found))
    plan = kernel / kernel.sum(1, keepdim=True)
    assert plan.sum(0).tolist() == pytest.approx([9 / 5] * 5, rel=1e-3)
    assert found.settings["steps"] < 200
    u, v = [1.0] * 9, [1.0] * 5  # Sinkhorn's own algorithm, in plain numbers
    table = [[math.exp(4 * s) for s in row] for row in planted.cosines(queries.double(), candidates.double()).tolist()]
    for _ in range(200):
        u = [1 / sum(table[i][j] * v[j] for j in range(5)) for i in range(9)]
        v = [9 / 5 / sum(table[i][j] * u[i] for i in range(9)) for j in range(5)]
    by_hand = [-math.log(x) / 4 for x in v]
    assert (found.shift - found.shift[0]).tolist() == pytest.approx([x - by_hand[0] for x in by_hand], abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_repair_raises_recall_and_takes_hubs_away(name):
    queries, others, candidates = planted.hubs()
    gallery = planted.hubs(seed=1)[2]
    hit = torch.eye(len(queries), dtype=torch.bool)
    raw = planted.cosines(queries, candidates)
    fixed = correct(raw, made(name, Bank(others, candidates, planted.cosines), gallery))
    before, after = (recall_at(ranks(table, hit), 1) for table in (raw, fixed))
    skew = [float(skewness(count_occurrences(find_nearest(t, 10), len(candidates)))) for t in (raw, fixed)]
    assert after > before + 0.05
    assert skew[1] < skew[0] - 0.3


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_candidates_and_tiles_change_nothing(name, monkeypatch):
    queries, candidates, gallery = random(37, 6), random(23, 7), random(11, 8)
    candidates[3] = candidates[19]
    order = torch.randperm(23, generator=torch.Generator().manual_seed(9))
    whole = made(name, Bank(queries, candidates, planted.cosines), gallery)
    monkeypatch.setattr(bank, "TILE", 5)
    monkeypatch.setattr(bank, "CELLS", 60)
    tiled = made(name, Bank(queries, candidates[order], planted.cosines), gallery)
    assert tiled.shift.tolist() == pytest.approx(whole.shift[order].tolist(), abs=1e-6)
    assert whole.shift[3] == whole.shift[19]
    if whole.active is not None:
        assert tiled.active is not None
        assert tiled.active.tolist() == whole.active[order].tolist()


@pytest.mark.parametrize("name", NAMES)
def test_a_models_scale_and_bias_change_no_order(name):
    queries, candidates, gallery = random(37, 6), random(23, 7), random(11, 8)
    terms = [TermInfo(("a", "b"), "pairwise", 30.0, -9.0), TermInfo(("a", "b"), "pairwise", 20.0)]
    unit = cosine_unit(terms, ("a",), "b")
    assert unit == 50
    assert cosine_unit(terms, ("a",), "c") == 1
    plain = made(name, Bank(queries, candidates, planted.cosines), gallery)
    scaled = made(name, Bank(queries, candidates, lambda a, b: 50 * planted.cosines(a, b) - 9, unit), gallery)
    asked = planted.cosines(random(40, 10), candidates)
    by_cosine, by_objective = correct(asked, plain), correct(50 * asked - 9, scaled)
    assert by_cosine.argsort(1).tolist() == by_objective.argsort(1).tolist()


@pytest.mark.parametrize("name", NAMES)
def test_a_constant_space_stays_constant(name):
    same = torch.ones(11, 6)
    found = made(name, Bank(random(7, 1), same, planted.cosines), random(3, 2))
    scores = correct(planted.cosines(random(4, 3).double(), same.double()).float(), found)
    assert bool((scores == scores[:, :1]).all())
    assert ranks(scores, torch.eye(11, dtype=torch.bool)[:4]).tolist() == [0] * 4


def test_bad_input_is_one_line():
    good = random(4, 0)
    bad = good.clone()
    bad[1, 2] = math.nan
    with pytest.raises(ValueError, match="1 of 4 rows of the bank are not finite"):
        Bank(bad, good, planted.cosines)
    with pytest.raises(ValueError, match="1 of 4 rows of the candidates are not finite"):
        Bank(good, bad, planted.cosines)
    with pytest.raises(ValueError, match="the bank of a correction are rows"):
        Bank(good[:0], good, planted.cosines)
    both = Bank(good, good, planted.cosines)
    for call, says in (
        (lambda: repairs.nnn(both, k=0), "k of NNN is at least 1; got 0"),
        (lambda: repairs.inverted_softmax(both, sharpness=0.0), "sharpness is above 0; got 0.0"),
        (lambda: repairs.qb_norm(both, k=0), "k of QB-Norm is at least 1"),
        (lambda: repairs.sinkhorn(both, steps=0), "at least 1 step"),
        (lambda: repairs.dual_bank(both, good[:0]), "at least one"),
        (lambda: correct(torch.zeros(2, 3), repairs.nnn(both)), "'nnn' is of 4 candidates; got scores"),
    ):
        with pytest.raises(ValueError, match=says):
            call()


@pytest.mark.sweep
def test_a_large_bank_needs_little_memory():
    """100,000 candidates: less than 512 MiB beside the embeddings. It does not grow with the bank."""
    import resource

    queries, candidates = random(2_500, 0, 32), random(100_000, 1, 32)
    given = Bank(queries, candidates, planted.cosines)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name in ("nnn", "inverted_softmax", "qb_norm", "sinkhorn"):
        made(name, given, candidates, **({"steps": 1} if name == "sinkhorn" else {}))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512 * 1024
