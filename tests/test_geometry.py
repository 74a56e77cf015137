"""Measures of geometry: each recomputed by its definition, with loops, all pairs, all permutations, or SciPy."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from align.metrics.geometry import (
    UnitRows,
    alignment,
    cka,
    depth,
    dissimilarities,
    effective_rank,
    gap,
    isotropy,
    mantel,
    mean_depth,
    moments,
    neighbourhood,
    overlap,
    plane,
    rsa,
    separability,
    uniformity,
)


def cloud(n: int, d: int, seed: int, of: torch.Tensor | None = None) -> torch.Tensor:
    """Rows of no unit length, of unequal variance and a mean beside the origin; near to those of another cloud."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=g) * torch.linspace(0.3, 2, d) + 0.4
    return x if of is None else of @ torch.randn(of.shape[1], d, generator=g) + x


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unit(x: torch.Tensor) -> list[list[float]]:
    return [[v / math.sqrt(sum(w * w for w in row)) for v in row] for row in x.double().tolist()]


def inner(a, b) -> float:
    return sum(v * w for v, w in zip(a, b, strict=True))


def spread(a, b) -> float:
    return sum((v - w) ** 2 for v, w in zip(a, b, strict=True))


x20, y20 = cloud(20, 5, 0), cloud(20, 4, 1, cloud(20, 5, 0))
z20 = cloud(20, 5, 2)


# distances


def test_gap_and_alignment_by_loops():
    a, b = unit(x20), unit(z20)
    middle = [[sum(row[k] for row in rows) / 20 for k in range(5)] for rows in (a, b)]
    assert gap(UnitRows(x20), UnitRows(z20)).value == pytest.approx(math.sqrt(spread(*middle)), abs=1e-12)
    expected = sum(spread(v, w) for v, w in zip(a, b, strict=True)) / 20
    assert alignment(UnitRows(x20), UnitRows(z20)).value == pytest.approx(expected, abs=1e-12)
    same = UnitRows(x20)
    assert (gap(same, same).value, alignment(same, same).value) == (0, 0)


def test_uniformity_and_depth_by_all_pairs():
    rows = unit(x20)
    found = neighbourhood(UnitRows(x20), 3)
    pairs = [(i, j) for i in range(20) for j in range(20) if i != j]
    expected = math.log(sum(math.exp(-2 * spread(rows[i], rows[j])) for i, j in pairs) / len(pairs))
    assert uniformity(found.potential).value == pytest.approx(expected, abs=1e-6)
    values = [2 - sum(1 - inner(rows[i], rows[j]) for j in range(20) if j != i) / 19 for i in range(20)]
    assert depth(UnitRows(x20)).tolist() == pytest.approx(values, abs=1e-12)
    assert mean_depth(depth(UnitRows(x20))).value == pytest.approx(sum(values) / 20, abs=1e-12)
    assert depth(UnitRows(x20[:1])).tolist() == [2]


def test_blocks_change_nothing(monkeypatch):
    import align.metrics.geometry.neighbours as near
    import align.metrics.geometry.rows as rows

    x, y = cloud(50, 6, 3), cloud(50, 6, 4)
    whole = neighbourhood(UnitRows(x), 4)
    values = [gap(UnitRows(x), UnitRows(y)), alignment(UnitRows(x), UnitRows(y)), cka(UnitRows(x), UnitRows(y))]
    monkeypatch.setattr(near, "SIDE", 7)
    monkeypatch.setattr(rows, "NUMBERS", 6 * 11)
    parts = neighbourhood(UnitRows(x), 4)
    assert parts.nearest.sort().values.equal(whole.nearest.sort().values)
    assert torch.allclose(parts.potential, whole.potential, atol=1e-7)
    again = [gap(UnitRows(x), UnitRows(y)), alignment(UnitRows(x), UnitRows(y)), cka(UnitRows(x), UnitRows(y))]
    for one, other in zip(values, again, strict=True):
        assert other.value == pytest.approx(one.value, abs=1e-12)
        assert torch.allclose(one.values, other.values, atol=1e-10)


def test_rows_by_index_are_those_of_their_table():
    order = torch.tensor([4, 9, 2, 11, 0, 7])
    chosen, copied = UnitRows(x20, order), UnitRows(x20[order])
    assert len(chosen) == 6
    assert neighbourhood(chosen, 2).nearest.equal(neighbourhood(copied, 2).nearest)
    assert depth(chosen).equal(depth(copied))
    assert chosen.take(torch.tensor([3])).equal(copied.take(torch.tensor([3])))


# neighbours


def nearest_by_hand(x: torch.Tensor, k: int) -> list[set[int]]:
    """Ties never help: j is a neighbour of i where at most k others, j among them, are as near."""
    rows = unit(x)
    n = len(rows)
    near = [[np.float32(inner(rows[i], rows[j])) for j in range(n)] for i in range(n)]
    return [
        {j for j in range(n) if j != i and sum(near[i][m] >= near[i][j] for m in range(n) if m != i) <= k}
        for i in range(n)
    ]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("k", [1, 3, 10])
def test_mutual_neighbours_by_hand(k, ties):
    x, y = x20.clone(), z20.clone()
    if ties:
        x[5], x[6], x[7], y[3], y[4] = x[4], x[4], x[4] * 3, y[2], y[2] / 2
    a, b = nearest_by_hand(x, k), nearest_by_hand(y, k)
    expected = [len(p & q) / k for p, q in zip(a, b, strict=True)]
    found = overlap(neighbourhood(UnitRows(x), k).nearest, neighbourhood(UnitRows(y), k).nearest)
    assert found.tolist() == pytest.approx(expected)
    assert [set(row) - {-1} for row in neighbourhood(UnitRows(x), k).nearest.tolist()] == a


def test_neighbours_of_the_same_and_of_unrelated_spaces():
    near = neighbourhood(UnitRows(cloud(300, 8, 5)), 10).nearest
    turned = neighbourhood(UnitRows(cloud(300, 8, 5).double() @ rotation(8) * 7), 10).nearest
    assert float(overlap(near, turned).mean()) == 1
    other = neighbourhood(UnitRows(cloud(300, 8, 6) - 0.4), 10).nearest
    assert float(overlap(near, other).mean()) == pytest.approx(10 / 299, abs=0.01)
    with pytest.raises(ValueError, match="19 neighbours need 21 rows; got 20"):
        neighbourhood(UnitRows(x20), 19)


def rotation(d: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(d, d, generator=draw(9), dtype=torch.float64)).Q


# spectra


def test_effective_rank_by_singular_values():
    for x in (x20, cloud(6, 9, 3)):
        s = np.linalg.svd(np.array(unit(x)), compute_uv=False)
        p = s / s.sum()
        expected = math.exp(-sum(v * math.log(v) for v in p))
        rows = UnitRows(x)
        assert effective_rank(rows, moments(rows)).value == pytest.approx(expected, rel=1e-9)
    for x, rank in ((torch.eye(7).repeat(3, 1), 7), (torch.ones(9, 4), 1), (torch.zeros(5, 4), 0)):
        assert effective_rank(UnitRows(x), moments(UnitRows(x))).value == pytest.approx(rank, abs=1e-9)


def test_isotropy_by_the_steps_of_the_paper():
    rows = np.array(unit(x20))
    variances = np.linalg.eigvalsh(np.cov(rows.T))  # steps 2 and 3: the diagonal in the principal axes
    n = len(variances)
    normed = math.sqrt(n) * variances / np.linalg.norm(variances)
    defect = np.linalg.norm(normed - 1) / math.sqrt(2 * (n - math.sqrt(n)))
    used = (n - defect**2 * (n - math.sqrt(n))) ** 2 / n**2
    x = UnitRows(x20)
    assert isotropy(x, moments(x)).value == pytest.approx((n * used - 1) / (n - 1), abs=1e-12)
    both = UnitRows(torch.cat([torch.eye(6), -torch.eye(6)]))
    assert isotropy(both, moments(both)).value == pytest.approx(1)
    line = UnitRows(torch.tensor([[1.0, 0], [-1.0, 0], [1.0, 0]]))
    assert isotropy(line, moments(line)).value == pytest.approx(0)


# similarity


def hsic_by_definition(k: np.ndarray, m: np.ndarray) -> float:
    """Song et al. 2012, equation 5, with n x n matrices."""
    n = len(k)
    k, m, one = k - np.diag(np.diag(k)), m - np.diag(np.diag(m)), np.ones(n)
    total = np.trace(k @ m) + one @ k @ one * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ m @ one)
    return total / (n * (n - 3))


def test_cka_by_its_definition():
    for x, y in ((x20, y20), (cloud(5, 9, 1), cloud(5, 3, 2))):
        a, b = np.array(unit(x)), np.array(unit(y))
        k, m = a @ a.T, b @ b.T
        expected = hsic_by_definition(k, m) / math.sqrt(hsic_by_definition(k, k) * hsic_by_definition(m, m))
        assert cka(UnitRows(x), UnitRows(y)).value == pytest.approx(expected, abs=1e-10)
    with pytest.raises(ValueError, match="CKA needs 4 pairs; got 3"):
        cka(UnitRows(x20[:3]), UnitRows(x20[:3]))


def test_cka_of_equal_turned_scaled_and_unrelated_spaces():
    x = cloud(300, 20, 3)
    turned = x.double() @ rotation(20) * 5
    assert cka(UnitRows(x), UnitRows(x)).value == pytest.approx(1, abs=1e-12)
    assert cka(UnitRows(x), UnitRows(turned)).value == pytest.approx(1, abs=1e-12)
    values = [cka(UnitRows(cloud(60, 40, s)), UnitRows(cloud(60, 40, 100 + s))).value for s in range(12)]
    assert abs(sum(values) / 12) < 0.02  # the biased estimate is near .5 here


def test_rsa_is_spearmans_and_its_influence_the_jackknifes():
    from scipy.stats import spearmanr

    pairs = torch.triu_indices(20, 20, 1)
    d, e = (dissimilarities(F.normalize(x.double(), dim=1)) for x in (x20, y20))
    expected = [[1 - inner(a, b) for b in unit(x20)] for a in unit(x20)]
    assert np.allclose(d.numpy(), expected, atol=1e-7)
    assert not d.diagonal().any()
    tied = (e > e.median()).float()
    for one, other in ((d, e), (d, tied), (tied, d)):
        flat = [m[pairs[0], pairs[1]].numpy() for m in (one, other)]
        assert rsa(one, other).value == pytest.approx(spearmanr(*flat).statistic, abs=1e-12)
    found, left = rsa(d, e), []
    for i in range(20):
        kept = torch.tensor([j for j in range(20) if j != i])
        left.append(20 * found.value - 19 * rsa(d[kept][:, kept], e[kept][:, kept]).value)
    assert np.corrcoef(left, found.values.numpy())[0, 1] > 0.99
    assert np.std(left) / float(found.values.std(correction=0)) == pytest.approx(1, abs=0.15)


def test_mantel_counts_all_permutations_of_five():
    from scipy.stats import rankdata

    g = draw(3)
    x, y = (dissimilarities(F.normalize(torch.randn(5, 3, generator=g).double(), dim=1)) for _ in range(2))
    places = [(i, j) for i in range(5) for j in range(i)]
    ranked = rankdata([float(x[p]) for p in places]) - 5.5
    place = {p: ranked[k] for k, p in enumerate(places)} | {(j, i): ranked[k] for k, (i, j) in enumerate(places)}
    other = rankdata([float(y[p]) for p in places]) - 5.5

    def correlation(order):
        return sum(place[order[i], order[j]] * other[k] for k, (i, j) in enumerate(places))

    least = correlation(range(5)) - 1e-9
    expected = sum(correlation(order) >= least for order in permutations(range(5))) / 120
    assert 0.1 < expected < 0.9
    assert mantel(x, y, draws=120, generator=draw()) == pytest.approx(expected)
    drawn = mantel(x, y, draws=119, generator=draw())
    assert drawn == pytest.approx(expected, abs=0.12)
    assert round(drawn * 120, 6) % 1 == 0


def test_mantel_of_related_and_unrelated_matrices():
    x, y, z = (F.normalize(cloud(40, 5, seed), dim=1) for seed in (1, 2, 3))
    d, e, related = dissimilarities(x), dissimilarities(y), dissimilarities(F.normalize(x + 0.3 * z, dim=1))
    assert mantel(d, related, draws=99, generator=draw()) == 0.01
    others = [dissimilarities(F.normalize(cloud(40, 5, seed), dim=1)) for seed in range(4, 24)]
    found = [mantel(d, other, draws=19, generator=draw(i)) for i, other in enumerate(others)]
    assert 0.3 < sum(found) / 20 < 0.7
    assert mantel(d, e, draws=99, generator=draw()) == mantel(d, e, draws=99, generator=draw())


# separability


def test_separability_is_a_discriminant_fitted_on_the_other_folds():
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    x, y = cloud(60, 5, 1), cloud(60, 5, 2) - 0.35
    found = separability(UnitRows(x), UnitRows(y), generator=draw(4))
    order = torch.randperm(60, generator=draw(4))
    a, b = np.array(unit(x)), np.array(unit(y))
    expected = np.zeros((60, 2))
    for fold in order.tensor_split(5):
        rest = np.setdiff1d(np.arange(60), fold)
        both = np.concatenate([a[rest], b[rest]])
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.01)
        model.fit(both, np.repeat([0, 1], len(rest)))
        expected[fold, 0], expected[fold, 1] = model.predict(a[fold]) == 0, model.predict(b[fold]) == 1
    assert 0.6 < expected.mean() < 0.99
    assert np.mean(found.numpy() == expected) >= 0.99  # scikit-learn shrinks standardised columns


def test_separability_of_modalities_apart_alike_and_equal():
    x = cloud(200, 6, 1)
    assert float(separability(UnitRows(x - 9), UnitRows(x + 9), generator=draw()).mean()) == 1
    assert float(separability(UnitRows(x), UnitRows(cloud(200, 6, 2)), generator=draw()).mean()) == pytest.approx(
        0.5, abs=0.1
    )
    assert float(separability(UnitRows(x), UnitRows(x), generator=draw()).mean()) == 0  # every row lies on the line


# all of them


def single(x: torch.Tensor) -> dict:
    rows = UnitRows(x)
    sums = moments(rows)
    return {
        "rank": effective_rank(rows, sums),
        "isotropy": isotropy(rows, sums),
        "uniformity": uniformity(neighbourhood(rows, 2).potential),
        "depth": mean_depth(depth(rows)),
    }


def paired(x: torch.Tensor, y: torch.Tensor) -> dict:
    a, b = UnitRows(x), UnitRows(y)
    return {"gap": gap(a, b), "alignment": alignment(a, b), "cka": cka(a, b)}


def test_values_of_rows_average_to_the_measure_and_tell_its_spread():
    """Against the jackknife: leave each row out, compute the measure anew."""
    x = cloud(40, 6, 1)
    y = cloud(40, 6, 2, x)
    full = {**single(x), **paired(x, y)}
    without = []
    for i in range(40):
        kept = [j for j in range(40) if j != i]
        without.append({**single(x[kept]), **paired(x[kept], y[kept])})
    for name, found in full.items():
        assert float(found.values.mean()) == pytest.approx(found.value, abs=1e-12)
        pseudo = [40 * found.value - 39 * one[name].value for one in without]
        assert np.corrcoef(pseudo, found.values.numpy())[0, 1] > 0.97, name
        assert np.std(pseudo) / float(found.values.std(correction=0)) == pytest.approx(1, abs=0.25), name


def test_the_spread_of_cka_where_rows_are_as_few_as_dimensions():
    x, y = cloud(24, 30, 1), cloud(24, 30, 2)
    found, pseudo = cka(UnitRows(x), UnitRows(y)), []
    for i in range(24):
        kept = [j for j in range(24) if j != i]
        pseudo.append(24 * found.value - 23 * cka(UnitRows(x[kept]), UnitRows(y[kept])).value)
    assert np.corrcoef(pseudo, found.values.numpy())[0, 1] > 0.99


@pytest.mark.parametrize("value", [0.1, 1.0, 0.0])
def test_constant_spaces(value):
    """Rows that say nothing have no neighbours and no similarity, whatever blocks they fall into."""
    x = torch.full((30, 7), value)
    y = cloud(30, 7, 1)
    near = neighbourhood(UnitRows(x), 5)
    assert (near.nearest == -1).all()
    assert overlap(near.nearest, near.nearest).tolist() == [0] * 30
    found = single(x)
    told = [found[name].value for name in ("rank", "isotropy", "depth", "uniformity")]
    assert told == pytest.approx([1, 0, 2, 0] if value else [0, 0, 1, -4], abs=1e-5)
    assert cka(UnitRows(x), UnitRows(y)).value == 0
    assert cka(UnitRows(x), UnitRows(x)).value == 0
    assert float(separability(UnitRows(x), UnitRows(x), generator=draw()).mean()) == 0
    same, other = dissimilarities(F.normalize(x, dim=1)), dissimilarities(F.normalize(y, dim=1))
    assert rsa(same, other).value == 0
    assert mantel(same, other, generator=draw()) == 1
    for one in (*found.values(), *paired(x, y).values()):
        assert one.values.isfinite().all()


@pytest.mark.parametrize("seed", range(6))
def test_equal_rows_have_equal_dissimilarities_though_their_cosines_differ_in_the_last_bit(seed):
    x = F.normalize(cloud(1, 8, seed).double(), dim=1).expand(30, 8).contiguous()
    assert not dissimilarities(x).any()
    assert rsa(dissimilarities(x), dissimilarities(x)).value == 0


def test_plane_is_that_of_the_singular_vectors():
    x, y = cloud(30, 6, 1), cloud(25, 6, 2)
    rows = np.array(unit(x) + unit(y))
    _, s, v = np.linalg.svd(rows - rows.mean(0))
    flat = plane([moments(UnitRows(x)), moments(UnitRows(y))])
    assert flat.share == pytest.approx((s[0] ** 2 / (s**2).sum(), s[1] ** 2 / (s**2).sum()))
    assert abs(flat.axes.T.numpy() @ v[:2].T) == pytest.approx(np.eye(2), abs=1e-8)
    assert (flat.axes.gather(0, flat.axes.abs().argmax(0, keepdim=True)) > 0).all()
