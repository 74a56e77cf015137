"""Logistic and ridge regression of the probe, and its scores, beside scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from align.evaluation.probe import choose, design, statistics
from align.evaluation.probe.choose import COSTS, Trials, fit
from align.evaluation.probe.design import Design
from align.evaluation.probe.draws import draw_share, draw_shots, rank_in_class
from align.evaluation.probe.folds import deal
from align.evaluation.probe.logistic import Logistic
from align.evaluation.probe.pool import Pool
from align.evaluation.probe.ridge import solve

N, D, C = 150, 12, 4


@pytest.fixture(scope="module")
def world():
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(N) % C
    x = torch.randn(C, D, generator=draw)[y] * 0.7 + torch.randn(N, D, generator=draw) + 2
    return x, y


def reference(cost):
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=cost, tol=1e-10, max_iter=5000, solver="newton-cg")


@pytest.mark.parametrize("streamed", [False, True])
def test_the_solutions_are_scikit_learns(world, monkeypatch, streamed):
    """On a path, with one problem that leaves rows out; kept in float64, or turned anew in blocks of rows."""
    if streamed:
        monkeypatch.setattr(design, "KEPT", 0)
        monkeypatch.setattr(design, "CELLS", 500)
    x, y = world
    left = torch.rand(N, generator=torch.Generator().manual_seed(1)) < 0.3
    left |= y == 3  # a class that the second problem does not know
    weight = torch.stack([torch.ones(N), (~left).float()])
    made = Design(x, torch.arange(N))
    unit = F.normalize(x.double(), dim=1)
    worst, solved, problem = 0.0, None, Logistic(made, y, weight, C)
    for cost in (1e-3, 1.0, 30.0):
        solved, found = problem.solve(torch.full((2,), cost).double(), solved)
        assert found.done.all()
        for p, rows in enumerate((torch.ones(N).bool(), ~left)):
            theirs = reference(cost).fit(unit[rows].numpy(), y[rows].numpy())
            w, b = made.original(solved[p, :-1], solved[p, -1])
            known = theirs.classes_.tolist()
            assert problem.absent[p].tolist() == [c not in known for c in range(C)]
            worst = max(worst, float(np.abs(w[:, known].T.numpy() - theirs.coef_).max()))
            b, of = b[known].numpy(), theirs.intercept_
            worst = max(worst, float(np.abs((b - b.mean()) - (of - of.mean())).max()))
    assert worst < 2e-4


def test_the_choice_is_that_of_a_loop_over_scikit_learn(world, monkeypatch):
    """C by accuracy on the folds left out, of equals the smallest, then a fit on all rows: as many are told right."""
    x, y = world
    some = COSTS[12:36:4]
    monkeypatch.setattr(choose, "COSTS", some)
    fold = torch.arange(N) // C % 3
    (ours,) = fit(Design(x, torch.arange(N)), y, C, Trials(torch.ones(1, N).bool(), fold[None], 3))
    unit = F.normalize(x.double(), dim=1).numpy()
    right = [
        sum(
            int(
                (
                    reference(cost).fit(unit[fold != f], y[fold != f]).predict(unit[fold == f]) == y[fold == f].numpy()
                ).sum()
            )
            for f in range(3)
        )
        for cost in some
    ]
    assert ours.cost == some[right.index(max(right))]
    asked = torch.arange(N)
    told = ours.logits(x, asked, True).argmax(dim=1)
    theirs = reference(ours.cost).fit(unit, y.numpy())
    assert float((told.numpy() == theirs.predict(unit)).mean()) > 1 - 1e-3


@pytest.mark.parametrize("together", [1, 1 << 21])
def test_of_equal_costs_the_smallest_counts(monkeypatch, together):
    """All values of C from the second on tell all rows but one, a row among those of another class."""
    monkeypatch.setattr(choose, "TOGETHER", together)
    y = torch.arange(41) % 2
    x = torch.stack([2.0 * y - 1, torch.linspace(-0.1, 0.1, 41)], dim=1)
    x[0] *= -1
    fold = (torch.arange(41) // 2 % 3)[None]
    design_of = Design(x, torch.arange(41), unit=False)
    for costs in ((0.1, 1.0, 10.0), (1.0, 10.0)):
        (one,) = fit(design_of, y, 2, Trials(torch.ones(1, 41).bool(), fold, 3, costs))
        told = one.logits(x, torch.arange(41), False).argmax(dim=1)
        assert (told == y).tolist() == [False] + [True] * 40
        assert one.cost == costs[0]


def test_a_class_without_a_row_takes_no_part_in_the_softmax(world):
    """Where all logits are 0, the loss of a row is the logarithm of the number of the classes that have one."""
    x, y = world
    weight = torch.stack([torch.ones(N), (y != 3).float()])
    _, found = Logistic(Design(x, torch.arange(N)), y, weight, C).solve(torch.ones(2).double(), steps=0)
    assert found.value.tolist() == pytest.approx([float(np.log(4)), float(np.log(3))])


@pytest.mark.parametrize("folds", [0, 3])
def test_a_class_without_a_row_is_never_the_answer(world, folds):
    """The rows of the class 3 are not drawn. Where the others' logits are low, its logit of 0 would be the highest."""
    x, y = world
    drawn = (y != 3)[None]
    fold = (torch.arange(N) // C % 3)[None]
    (one,) = fit(Design(x, torch.arange(N)), y, C, Trials(drawn, fold, folds, COSTS[12:36:4]))
    logits = one.logits(x, torch.arange(N), True)
    assert logits[:, 3].isneginf().all()
    assert logits[:, :3].isfinite().all()
    assert not (logits.argmax(dim=1) == 3).any()
    known = Trials(torch.ones(1, int(drawn.sum())).bool(), fold[:, drawn[0]], folds, COSTS[12:36:4])
    (alone,) = fit(Design(x, drawn[0].nonzero().flatten()), y[drawn[0]], 3, known)
    assert alone.cost == one.cost
    assert torch.allclose(alone.logits(x, torch.arange(N), True).softmax(1), logits[:, :3].softmax(1), atol=1e-3)


def test_together_or_one_after_the_other_chooses_the_same(world, monkeypatch):
    x, y = world
    drawn = torch.stack([torch.arange(N) < 90, torch.arange(N) % 3 > 0])
    trials = Trials(drawn, torch.stack([torch.arange(N) // C % 3] * 2), 3)
    monkeypatch.setattr(choose, "COSTS", COSTS[8:40:6])
    made = Design(x, torch.arange(N))
    many = fit(made, y, C, trials)
    monkeypatch.setattr(choose, "TOGETHER", 1)
    single = fit(made, y, C, trials)
    for one, other, rows in zip(many, single, drawn, strict=True):
        assert one.cost == other.cost
        assert torch.allclose(one.weight, other.weight, atol=1e-3)
        alone = Design(x, rows.nonzero().flatten())
        (lone,) = fit(alone, y[rows], C, Trials(torch.ones(1, int(rows.sum())).bool(), trials.fold[:1, rows], 3))
        assert lone.cost == one.cost
        assert torch.allclose(lone.weight, one.weight, atol=1e-3)


def test_several_classes_are_one_against_the_rest(world):
    from sklearn.linear_model import LogisticRegression

    x, y = world
    hits = F.one_hot(y, C).bool()
    hits[:40, 0] = True
    made = Design(x, torch.arange(N), unit=False)
    solved, _ = Logistic(made, hits, torch.ones(1, N), C).solve(torch.tensor([0.5]).double())
    w, b = made.original(solved[0, :-1], solved[0, -1])
    for c in range(C):
        theirs = LogisticRegression(C=0.5, tol=1e-10, solver="newton-cg").fit(x.double().numpy(), hits[:, c].numpy())
        assert np.abs(w[:, c].numpy() - theirs.coef_[0]).max() < 1e-4
        assert abs(float(b[c]) - theirs.intercept_[0]) < 1e-4


def test_equal_rows_tell_nothing():
    (blind,) = fit(
        Design(torch.ones(30, 5), torch.arange(30)),
        torch.tensor([0] * 20 + [1] * 10),
        2,
        Trials(torch.ones(1, 30).bool(), torch.arange(30)[None] % 3, 3),
    )
    assert blind.blind
    assert not blind.logits(torch.randn(4, 5), torch.arange(4), True).any()


@pytest.mark.parametrize("streamed", [False, True])
def test_ridge_is_scikit_learns(world, monkeypatch, streamed):
    from sklearn.linear_model import Ridge

    if streamed:
        monkeypatch.setattr(design, "KEPT", 0)
        monkeypatch.setattr(design, "CELLS", 500)
    x, y = world
    target = x[:, 0].double() + y + 5
    pool = Pool(x, torch.arange(N), torch.arange(N), target)
    alphas = torch.tensor([1e-4, 0.1, 10.0]).double()
    told = solve(pool, alphas, True, pool)
    unit = F.normalize(x.double(), dim=1).numpy()
    for i, alpha in enumerate(alphas.tolist()):
        assert np.abs(Ridge(alpha=alpha).fit(unit, target.numpy()).predict(unit) - told[:, i].numpy()).max() < 1e-8


def test_scores_are_those_of_others_also_with_weights():
    """A weight of 2 is a query that stands twice. The numbers have ties."""
    from scipy.stats import spearmanr
    from sklearn.metrics import r2_score

    draw = torch.Generator().manual_seed(3)
    y, p = torch.randint(6, (2, 40), generator=draw).double()
    weights = torch.randint(3, (3, 40), generator=draw).double()
    pairs = torch.stack([y, p], dim=1)
    for w in weights:
        many = torch.arange(40).repeat_interleave(w.long())
        one = w[None]
        assert statistics.r_squared(pairs, one)[0] == pytest.approx(r2_score(y[many], p[many]))
        assert statistics.spearman(pairs, one)[0] == pytest.approx(spearmanr(y[many], p[many]).statistic)
    assert statistics.spearman(torch.stack([y, torch.ones(40)], dim=1), weights).tolist() == [0, 0, 0]


# folds and draws


def test_dealt_folds_keep_groups_and_classes():
    kind = [i % 3 for i in range(90)]
    groups = [None if i % 2 else f"g{i // 6}" for i in range(90)]
    place = deal(kind, groups, 5, torch.Generator().manual_seed(0)).tolist()
    for group in set(groups) - {None}:
        assert len({p for p, g in zip(place, groups, strict=True) if g == group}) == 1
    alone = deal(kind, [None] * 90, 5, torch.Generator().manual_seed(0)).tolist()
    assert all(
        sum(k == c and p == f for k, p in zip(kind, alone, strict=True)) == 6 for c in range(3) for f in range(5)
    )
    assert alone != deal(kind, [None] * 90, 5, torch.Generator().manual_seed(1)).tolist()


def test_draws_grow_and_have_each_class():
    kind = torch.tensor([0] * 50 + [1] * 7 + [2] + [-1] * 5)
    rank = rank_in_class(kind, torch.Generator().manual_seed(0))
    for k in (1, 4, 16):
        drawn = draw_shots(kind, rank, k)
        assert torch.bincount(kind[drawn]).tolist() == [min(k, n) for n in (50, 7, 1)]
        assert (draw_shots(kind, rank, 2 * k) | ~drawn).all()
    for share, counts in ((0.01, [1, 1, 1]), (0.1, [5, 1, 1]), (1.0, [50, 7, 1])):
        assert torch.bincount(kind[draw_share(kind, rank, share)]).tolist() == counts
