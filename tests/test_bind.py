"""Heads in closed form beside scikit-learn, scipy and plain loops; held-out matching; pairs and splits."""

import math

import pytest
import torch

from align.bind.fitting import fit_heads
from align.bind.matching import Side, embed, match
from align.bind.moments import flip, sum_moments
from align.bind.pairing import average_rows, hold_out, keep_both, order_samples, pair_rows
from align.bind.procrustes import solve_procrustes
from align.bind.ridge import STRENGTHS, choose_strength, solve_ridge
from align.bind.subspace import canonical_directions, fix_signs
from align.heads import Centered, Identity, Linear
from align.values import Features

N, W, D = 60, 7, 5


def pairs(n=N, w=W, d=D, noise=0.4, seed=0):
    """Rows of two columns with three causes in common, far from zero."""
    g = torch.Generator().manual_seed(seed)
    causes = torch.randn(n, 3, generator=g, dtype=torch.float64)
    x = causes @ torch.randn(3, w, generator=g, dtype=torch.float64) + 4
    y = causes @ torch.randn(3, d, generator=g, dtype=torch.float64) - 3
    return tuple(rows + noise * torch.randn(rows.shape, generator=g, dtype=torch.float64) for rows in (x, y))


def run(head, rows):
    return head.double()(Features(rows))


def close(found, wanted, tolerance=1e-6):
    torch.testing.assert_close(found, torch.as_tensor(wanted), rtol=tolerance, atol=tolerance)


def test_moments_are_the_sums_of_a_loop(monkeypatch):
    monkeypatch.setattr("align.bind.moments.PIECE", 7)
    x, y = pairs()
    found = sum_moments(x.float(), y.float())
    x, y = x.float().double(), y.float().double()
    a, b = x - x.mean(0), y - y.mean(0)
    close(found.mean_x, x.mean(0), 1e-12)
    for got, left, right in ((found.xx, a, a), (found.xy, a, b), (found.yy, b, b)):
        close(got, sum(torch.outer(p, q) for p, q in zip(left, right, strict=True)), 1e-9)
    assert flip(found).xy.shape == (D, W)
    close(flip(flip(found)).xx, found.xx)


def test_ridge_is_the_normal_equations():
    x, y = pairs()
    moments = sum_moments(x, y)
    a, b = x - x.mean(0), y - y.mean(0)
    close(
        solve_ridge(moments, 2.5), torch.linalg.inv(a.T @ a + 2.5 * torch.eye(W, dtype=torch.float64)) @ a.T @ b, 1e-9
    )
    head = fit_heads({"a": moments}, "b", "ridge", keep_anchor=True).heads["a"]
    close(run(head, x), a @ solve_ridge(moments, choose_strength(moments).value) + y.mean(0), 1e-5)


@pytest.mark.slow  # scikit-learn takes seconds to import
def test_ridge_and_its_strength_are_scikit_learns():
    linear = pytest.importorskip("sklearn.linear_model")
    x, y = pairs()
    moments = sum_moments(x, y)
    close(solve_ridge(moments, 2.5).T, linear.Ridge(alpha=2.5).fit(x.numpy(), y.numpy()).coef_, 1e-9)
    value = choose_strength(moments).value
    head = fit_heads({"a": moments}, "b", "ridge", keep_anchor=True).heads["a"]
    close(run(head, x), linear.Ridge(alpha=value).fit(x.numpy(), y.numpy()).predict(x.numpy()), 1e-5)
    grid = [step * float(moments.xx.trace()) / W for step in STRENGTHS]
    chosen = linear.RidgeCV(grid).fit(x.numpy(), y.numpy()).alpha_  # by leave-one-out
    assert abs(math.log10(chosen / value)) <= 0.26  # one step of the grid


def test_the_generalised_error_is_that_of_the_hat_matrix():
    x, y = pairs(n=20)
    moments = sum_moments(x, y)
    found = choose_strength(moments)
    a, b = x - x.mean(0), y - y.mean(0)
    errors = []
    for step in STRENGTHS:
        strength = step * float(moments.xx.trace()) / W
        hat = a @ torch.linalg.inv(a.T @ a + strength * torch.eye(W, dtype=torch.float64)) @ a.T + 1 / 20
        left = (b - hat @ b).square().sum() / 20
        errors.append(float(left / (1 - hat.trace() / 20) ** 2))
    assert found.error == pytest.approx(min(errors))
    assert found.value == pytest.approx(STRENGTHS[errors.index(min(errors))] * float(moments.xx.trace()) / W)
    hat = a @ torch.linalg.inv(a.T @ a + found.value * torch.eye(W, dtype=torch.float64)) @ a.T
    assert found.freedom == pytest.approx(1 + float(hat.trace()))


def test_more_numbers_than_pairs_leave_a_finite_error():
    x, y = pairs(n=6, w=30)
    found = choose_strength(sum_moments(x, y))
    assert 0 < found.error < float("inf")
    assert found.freedom < 6


def test_procrustes_is_scipys_rotation_and_finds_a_true_one():
    from scipy.linalg import orthogonal_procrustes

    x, _ = pairs(w=D)
    truth = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    close(solve_procrustes(sum_moments(x, 3 * x @ truth - 9)), 3 * truth, 1e-9)
    _, y = pairs()
    a, b = x - x.mean(0), y - y.mean(0)
    rotation, total = orthogonal_procrustes(a.numpy(), b.numpy())
    found = solve_procrustes(sum_moments(x, y))
    close(found, rotation * total / float(a.square().sum()), 1e-9)


def test_procrustes_of_two_widths_keeps_lengths_on_the_narrower_side():
    x, y = pairs()
    wide = solve_procrustes(sum_moments(x, y))  # (7, 5)
    gram = wide.T @ wide
    close(gram / gram[0, 0], torch.eye(D, dtype=torch.float64), 1e-9)
    narrow = solve_procrustes(sum_moments(y, x))
    gram = narrow @ narrow.T
    close(gram / gram[0, 0], torch.eye(D, dtype=torch.float64), 1e-9)


def test_procrustes_leaves_directions_alone_that_the_pairs_say_nothing_about():
    x, y = pairs(w=D)
    x[:, 2] = 1.5
    found = solve_procrustes(sum_moments(x, y))
    close(found[2], torch.zeros(D, dtype=torch.float64), 1e-12)
    assert torch.linalg.matrix_rank(found) == D - 1


@pytest.fixture
def without_ridge(monkeypatch):
    tiny = choose_strength(sum_moments(*pairs()))._replace(value=1e-9)
    monkeypatch.setattr("align.bind.subspace.choose_strength", lambda moments: tiny)
    return tiny.value


def test_canonical_correlations_are_the_singular_values_of_two_bases(without_ridge):
    x, y = pairs(n=200)
    basis, shares = canonical_directions([sum_moments(x, y)], [without_ridge], 3)
    a, b = (torch.linalg.qr(rows - rows.mean(0))[0] for rows in (x, y))  # Björck and Golub 1973
    close(shares.sqrt(), torch.linalg.svdvals(a.T @ b)[:3])
    ours = (y - y.mean(0)) @ basis
    close(ours.T @ ours / 200, torch.eye(3, dtype=torch.float64))  # uncorrelated, of variance 1
    fitted = a @ (a.T @ ours)
    close((fitted * ours).mean(0), shares)


@pytest.mark.slow
def test_canonical_directions_are_scikit_learns(without_ridge):
    cross = pytest.importorskip("sklearn.cross_decomposition")
    x, y = pairs(n=200)
    basis, shares = canonical_directions([sum_moments(x, y)], [without_ridge], 3)
    other = cross.CCA(3, scale=False, max_iter=5000, tol=1e-12).fit(x.numpy(), y.numpy())
    u, v = map(torch.as_tensor, other.transform(x.numpy(), y.numpy()))
    ours = (y - y.mean(0)) @ basis
    for k in range(3):
        wanted = float(torch.corrcoef(torch.stack([u[:, k], v[:, k]]))[0, 1])
        assert float(shares[k]) ** 0.5 == pytest.approx(wanted, abs=1e-6)
        assert abs(float(torch.corrcoef(torch.stack([ours[:, k], v[:, k]]))[0, 1])) == pytest.approx(1, abs=1e-6)


def test_cca_is_the_regression_into_the_anchors_subspace():
    x, y = pairs()
    moments = sum_moments(x, y)
    fitted = fit_heads({"a": moments}, "b", "cca", dim=2)
    target = run(fitted.heads["b"], y)
    assert target.shape == (N, 2)
    strength = choose_strength(moments).value
    a = x - x.mean(0)
    beta = torch.linalg.inv(a.T @ a + strength * torch.eye(W, dtype=torch.float64)) @ a.T @ target
    close(run(fitted.heads["a"], x), a @ beta, 1e-4)
    assert fitted.correlations is not None
    assert (fitted.correlations.diff() <= 0).all()


def test_several_columns_share_the_anchors_subspace():
    x, y = pairs(n=100)
    z, t = pairs(n=80, w=4, seed=3)
    fitted = fit_heads({"a": sum_moments(x, y), "c": sum_moments(z, t)}, "b", "cca", dim=2)
    both = torch.stack([y.mean(0), t.mean(0)]).mean(0)
    assert {m: (head.width, head.dim) for m, head in fitted.heads.items()} == {"a": (W, 2), "c": (4, 2), "b": (D, 2)}
    target = run(fitted.heads["b"], t)
    close(target, (t - both) @ fitted.heads["b"].project.weight.T.double(), 1e-4)
    close(run(fitted.heads["c"], z).mean(0), target.mean(0), 1e-4)  # the intercept of its own pairs


@pytest.mark.parametrize("how", ["ridge", "procrustes"])
def test_a_dim_keeps_the_subspace_with_the_most_of_the_pairs(how):
    x, y = pairs()
    moments = sum_moments(x, y)
    whole, cut = (fit_heads({"a": moments}, "b", how, dim=dim) for dim in (None, 3))
    basis = cut.heads["b"].project.weight.T.double()  # (D, 3)
    close(basis.T @ basis, torch.eye(3, dtype=torch.float64), 1e-5)
    close(run(cut.heads["b"], y), (y - y.mean(0)) @ basis, 1e-4)
    if how == "ridge":
        kept = run(whole.heads["a"], x)
        close(run(cut.heads["a"], x), kept @ basis, 1e-4)
        v = torch.linalg.svd(kept - kept.mean(0))[2]
        close((basis @ basis.T), v[:3].T @ v[:3], 1e-5)


def test_centroid_shift_closes_the_gap_with_and_without_a_fixed_anchor():
    x, y = pairs(w=D)
    moments = sum_moments(x, y)
    moved = fit_heads({"a": moments}, "b", "shift").heads
    assert isinstance(moved["a"], Centered)
    assert int(moved["a"].count) == N
    close(run(moved["a"], x), x - x.mean(0), 1e-5)
    close(run(moved["b"], y), y - y.mean(0), 1e-5)
    kept = fit_heads({"a": moments}, "b", "shift", keep_anchor=True).heads
    assert isinstance(kept["b"], Identity)
    close(run(kept["a"], x), x - x.mean(0) + y.mean(0), 1e-5)


def test_signs_are_fixed():
    columns = torch.tensor([[1.0, -5.0], [-3.0, 2.0]])
    assert fix_signs(columns).tolist() == [[-1.0, 5.0], [3.0, -2.0]]
    assert torch.equal(fix_signs(-columns), fix_signs(columns))


def sides(values, sample, group=None):
    group = torch.full((len(sample),), -1) if group is None else torch.tensor(group)
    return Side(torch.as_tensor(values, dtype=torch.float64), torch.tensor(sample), group)


def test_matching_is_the_plain_loop(monkeypatch):
    monkeypatch.setattr("align.bind.matching.CELLS", 20)
    g = torch.Generator().manual_seed(0)
    a = sides(torch.randn(9, 4, generator=g), [0, 0, 1, 2, 3, 4, 5, 6, 9], [-1, -1, 7, 7, -1, -1, -1, 8, -1])
    b = sides(torch.randn(8, 4, generator=g), [0, 1, 1, 2, 3, 4, 5, 6], [-1, 7, 7, 7, -1, -1, -1, 8])
    right = chance = rows = 0
    for q, s, k in zip(*a, strict=True):
        hits = [bool(s == t) or bool(k == j and k >= 0) for _, t, j in zip(*b, strict=True)]
        if not any(hits):
            continue
        scores = [float(q @ c) for c in b.values]
        best = max(range(8), key=scores.__getitem__)
        right, chance, rows = right + hits[best], chance + sum(hits) / 8, rows + 1
    found = match("image", a, "text", b)
    assert (found.rows, found.among, rows) == (8, 8, 8)
    assert found.accuracy == right / rows
    assert found.chance == pytest.approx(chance / rows)


def test_ties_and_constant_rows_never_help():
    same = sides(torch.ones(4, 3), [0, 1, 2, 3])
    assert match("a", same, "b", same).accuracy == 0
    head = Linear(3, 2)
    torch.nn.init.zeros_(head.project.weight)
    zero = same._replace(values=embed(head, torch.randn(4, 3)))
    assert match("a", zero, "b", zero).accuracy == 0


def test_rows_of_a_sample_are_averaged_or_paired_with_each_other():
    a = sides([[1.0], [3.0], [5.0]], [2, 2, 4], [-1, -1, 6])
    b = sides([[10.0], [20.0], [30.0], [40.0], [50.0]], [1, 2, 2, 4, 4], [-1, -1, -1, 6, 6])
    mean = average_rows(a)
    assert mean.values.tolist() == [[2.0], [5.0]]
    assert (mean.sample.tolist(), mean.group.tolist()) == ([2, 4], [-1, 6])
    a, b = keep_both(a, b)
    at_a, at_b = pair_rows(a, b)
    found = [(float(a.values[i]), float(b.values[j])) for i, j in zip(at_a, at_b, strict=True)]
    assert found == [(1, 20), (1, 30), (3, 20), (3, 30), (5, 40), (5, 50)]


def test_equal_groups_are_on_one_side_of_the_split():
    names = [f"group {i % 12}" if i % 3 else f"sample {i}" for i in range(240)]
    order = order_samples(names, seed=0)
    held = hold_out(order, 0.25)
    assert 60 <= int(held.sum()) <= 60 + 20
    sides_of = {name: {bool(held[i]) for i, other in enumerate(names) if other == name} for name in names}
    assert all(len(found) == 1 for found in sides_of.values())
    assert not torch.equal(hold_out(order_samples(names, seed=1), 0.25), held)
    assert int(hold_out(order_samples(["a", "b"], 0), 0.01).sum()) == 1
    assert int(hold_out(order_samples(["a", "b"], 0), 0.99).sum()) == 1


def few(n=4, **sizes):
    return {"a": sum_moments(*pairs(n=n, **sizes))}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fit_heads(few(), "b", "rigde"), "there is no method 'rigde'; did you mean ridge"),
        (
            lambda: fit_heads(few(), "b", "lasso-net"),
            "there is no method 'lasso-net'; there are ridge, procrustes, cca",
        ),
        (
            lambda: fit_heads(few(5), "b", "procrustes"),
            "a rotation of 5 directions needs 6 pairs at least, there are 5",
        ),
        (lambda: fit_heads(few(2), "b", "ridge"), "ridge needs 3 pairs at least to choose its strength, there are 2"),
        (lambda: fit_heads(few(), "b", "cca", dim=4), "cca of 4 directions needs 5 pairs at least, there are 4"),
        (
            lambda: fit_heads(few(30), "b", "cca", dim=6),
            "dim is 1 to 5, the directions that b and the columns have; got",
        ),
        (lambda: fit_heads(few(), "b", "shift"), "shift moves rows within one space; a has 7 numbers a row and b 5"),
        (lambda: fit_heads(few(w=D), "b", "shift", dim=2), "shift keeps all numbers of a row; leave dim out"),
        (
            lambda: fit_heads(few(), "b", "ridge", dim=2, keep_anchor=True),
            "keep_anchor leaves all numbers of b in place",
        ),
        (lambda: sum_moments(torch.zeros(3, 2), torch.zeros(4, 2)), "pairs are rows"),
        (lambda: sum_moments(torch.zeros(0, 2), torch.zeros(0, 2)), "there is no pair to fit on"),
        (lambda: sum_moments(torch.full((3, 2), torch.nan), torch.zeros(3, 2)), "a row of the 3 pairs has NaN"),
        (lambda: choose_strength(sum_moments(torch.ones(5, 2), torch.rand(5, 2))), "all 5 rows are the same"),
        (lambda: solve_procrustes(sum_moments(torch.ones(5, 2), torch.rand(5, 2))), "do not change together"),
        (
            lambda: hold_out(order_samples(["a", "b"], 0), 1.0),
            "the share of held-out samples is between 0 and 1; got 1",
        ),
        (lambda: hold_out(order_samples(["a", "a"], 0), 0.5), "2 samples of 1 groups cannot be split"),
    ],
)
def test_errors_say_what_came(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(("n", "width"), [(6, 9), (4, 3), (12, 40), (40, 5)])
def test_the_strength_of_few_pairs_is_that_of_exact_residuals(n, width):
    draw = torch.Generator().manual_seed(n)
    x, y = (torch.randn(n, k, generator=draw, dtype=torch.float64) for k in (width, 3))
    u, s, _ = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    real = min(n - 1, width)
    u, s, y = u[:, :real], s[:real].square(), y - y.mean(0)
    inside = u.T @ y
    apart = 0.0 if real == n - 1 else float((y - u @ inside).square().sum())
    errors = []
    for step in STRENGTHS:
        bend = float(s.sum()) / width * step / (s + float(s.sum()) / width * step)
        left = apart + float((bend[:, None] * inside).square().sum())
        errors.append(n * left / (n - 1 - real + float(bend.sum())) ** 2)
    found = choose_strength(sum_moments(x, y))
    assert found.error == pytest.approx(min(errors), rel=1e-9)
    assert found.value == pytest.approx(float(s.sum()) / width * STRENGTHS[errors.index(min(errors))], rel=1e-9)
