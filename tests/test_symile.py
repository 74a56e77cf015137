"""symile against plain loops over tuples, and against the published code's values."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from few import few
from test_infonce import equal, rows

from align.losses import Symile, infonce, mip, symile
from align.losses.kernels.spread import spread
from align.losses.kernels.tuples import draw_rows, shuffle_rows

reference = json.loads((Path(__file__).parent / "reference" / "symile.json").read_text())["cases"]

three = {  # two captions, a modality missing in some samples, hard negatives, groups across samples
    "samples": [torch.tensor([0, 1, 2, 2, 7]), torch.tensor([2, 0, 1, -1]), torch.tensor([1, 2, 0, 0, 2, 9])],
    "groups": [torch.tensor([3, 3, 1, 1, -1]), torch.tensor([1, 3, 3, -1]), torch.tensor([3, 1, 3, 3, 1, 1])],
    "weights": [
        torch.tensor([1, 2, 0, 0.5, 1], dtype=torch.float64),
        torch.tensor([0.5, 1, 1, 3], dtype=torch.float64),
        torch.tensor([1, 1, 2, 1, 0.25, 1], dtype=torch.float64),
    ],
}


def three_rows(dim: int = 4):
    return rows(5, 4, 6, dim=dim)


def loop(xs, scale, candidates, samples, groups=None, weights=None):
    """candidates(m, i, own): the tuples (one row of each other modality) that anchor row i of m meets beside its own,
    and whether groups spare it."""
    modalities = []
    for m, x in enumerate(xs):
        others = [o for o in range(len(xs)) if o != m]

        def logit(m, i, rows, others=others):
            product = xs[m][i]
            for o, row in zip(others, rows, strict=True):
                product = product * xs[o][row]
            return scale * product.sum()

        total, count = 0.0, 0.0
        for i in range(len(x)):
            mine = samples[m][i]
            tuples = itertools.product(*(range(len(xs[o])) for o in others))
            own = [
                t
                for t in tuples
                if mine >= 0 and all(samples[o][row] == mine for o, row in zip(others, t, strict=True))
            ]
            if not own:
                continue

            def alike(t, m=m, i=i, mine=mine, others=others, own=own):
                if groups is None or t in own:
                    return False
                return all(
                    samples[o][row] == mine or (groups[m][i] >= 0 and groups[o][row] == groups[m][i])
                    for o, row in zip(others, t, strict=True)
                )

            against = [t for t in candidates(m, i, own) if not alike(t)]
            every = torch.stack([logit(m, i, t) for t in [*own, *against]]).logsumexp(0)
            weight = 1.0 if weights is None else weights[m][i]
            total = total + weight * sum(every - logit(m, i, t) for t in own) / len(own)
            count = count + weight
        modalities.append(total / count)
    return sum(modalities) / len(modalities)


def everything(xs):
    def candidates(m, i, own):
        spaces = [range(len(x)) for o, x in enumerate(xs) if o != m]
        return [t for t in itertools.product(*spaces) if t not in own]

    return candidates


def one_swapped(xs, samples):
    def candidates(m, i, own):
        others = [o for o in range(len(xs)) if o != m]

        def foreign(t):
            return sum(samples[o][row] != samples[m][i] for o, row in zip(others, t, strict=True))

        return [t for t in everything(xs)(m, i, own) if foreign(t) == 1]

    return candidates


def published(xs, seed):
    generator = torch.Generator().manual_seed(seed)
    longest = max(len(x) for x in xs)
    drawn = []
    for m in range(len(xs)):
        permutations = [torch.randperm(len(x), generator=generator).tolist() for o, x in enumerate(xs) if o != m]
        drawn.append([tuple(p[k % len(p)] for p in permutations) for k in range(longest)])
    return lambda m, i, own: [t for k, t in enumerate(drawn[m]) if k != i]


def uniform(xs, seed, count):
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for m in range(len(xs)):
        picks = [torch.randint(len(x), (count,), generator=generator).tolist() for o, x in enumerate(xs) if o != m]
        drawn.append(list(zip(*picks, strict=True)))
    return lambda m, i, own: [t for t in drawn[m] if t not in own]


@pytest.mark.parametrize("negatives", ["all", "partial", "shuffled", 9])
@pytest.mark.parametrize("extra", [(), ("groups",), ("weights",), ("groups", "weights")])
def test_equals_the_loop(negatives, extra):
    xs = three_rows()
    scale = torch.tensor([6.0], dtype=torch.float64, requires_grad=True)
    more = {name: three[name] for name in ("samples", *extra)}
    kinds = {
        "all": everything(xs),
        "partial": one_swapped(xs, three["samples"]),
        "shuffled": published(xs, 3),
        9: uniform(xs, 3, 9),
    }
    got = symile(xs, scale, negatives=negatives, generator=torch.Generator().manual_seed(3), **more)
    equal(got, loop(xs, scale, kinds[negatives], **more), [*xs, scale])


@pytest.mark.parametrize("negatives", ["all", "partial", "shuffled", 5])
def test_gradcheck_on_ragged_rows(negatives):
    xs = three_rows(dim=2)
    scale = torch.tensor([3.0], dtype=torch.float64, requires_grad=True)

    def loss(scale, *xs):
        return symile(xs, scale, negatives=negatives, generator=torch.Generator().manual_seed(1), **three)

    assert torch.autograd.gradcheck(loss, (scale, *xs))


@pytest.mark.parametrize("negatives", ["all", "partial", "shuffled", 7])
def test_four_and_five_modalities_equal_the_loop(negatives):
    for lengths in ((3, 2, 3, 2), (2, 2, 3, 2, 2)):
        xs = rows(*lengths, dim=3)
        samples = [torch.arange(n).flip(0) % 2 for n in lengths]
        kinds = {
            "all": everything(xs),
            "partial": one_swapped(xs, samples),
            "shuffled": published(xs, 3),
            7: uniform(xs, 3, 7),
        }
        got = symile(xs, 4.0, negatives=negatives, samples=samples, generator=torch.Generator().manual_seed(3))
        equal(got, loop(xs, 4.0, kinds[negatives], samples), xs)


@pytest.mark.parametrize("case", reference, ids=lambda c: f"M{c['M']}-scale{c['logit_scale']:.0f}")
def test_equals_the_published_code(case):
    torch.manual_seed(case["seed"])
    xs = [
        F.normalize(torch.randn(16, 32, dtype=torch.float64), p=2.0, dim=1).requires_grad_() for _ in range(case["M"])
    ]
    scale = torch.tensor([case["logit_scale"]], dtype=torch.float64, requires_grad=True)
    close = {"rel": 1e-12, "abs": 1e-12}
    loss = symile(xs, scale)
    assert loss.item() == pytest.approx(case["symile_n_squared"], **close)
    by_scale, *grads = torch.autograd.grad(loss, [scale, *xs])
    assert by_scale.item() == pytest.approx(case["symile_n_squared_dlogit_scale"], **close)
    lengths = [grad.norm().item() for grad in grads]
    assert lengths == pytest.approx(case["symile_n_squared_grad_l2_per_modality"], **close)
    assert grads[0][0, :4].tolist() == pytest.approx(case["symile_n_squared_grad0_row0_first4"], **close)

    draw = torch.Generator().manual_seed(1000 + case["seed"])
    drawn = [p.tolist() for m in range(case["M"]) for p in shuffle_rows(m, [16] * case["M"], draw)]
    assert drawn == case["symile_n_perms_in_call_order"]
    draw.manual_seed(1000 + case["seed"])
    assert symile(xs, scale, negatives="shuffled", generator=draw).item() == pytest.approx(case["symile_n"], **close)

    pairs = itertools.combinations(xs, 2)
    assert sum(infonce(a, b, scale) for a, b in pairs).item() == pytest.approx(case["clip_pairwise_sum"], **close)


@pytest.mark.parametrize("negatives", ["all", "partial"])
def test_two_modalities_are_infonce(negatives):
    a, b = rows(5, 6)
    samples = [torch.tensor([0, 1, 1, 2, -1]), torch.tensor([1, 0, 2, 2, 5, -1])]
    groups = [torch.tensor([0, 0, 0, 1, -1]), torch.tensor([0, 0, 1, 1, 0, -1])]
    expected = infonce(a, b, 8.0, sample_a=samples[0], sample_b=samples[1], group_a=groups[0], group_b=groups[1])
    equal(symile([a, b], 8.0, negatives=negatives, samples=samples, groups=groups), expected, [a, b])


def test_mip():
    a, b, c = rows(4, 4, 4)
    torch.testing.assert_close(mip([a, b]), (a * b).sum(-1))
    torch.testing.assert_close(mip([a[:, None], b[None], c[0]]), torch.einsum("id,jd,d->ij", a, b, c[0]))
    assert mip([a.bfloat16(), b.bfloat16()]).dtype == torch.float32
    with pytest.raises(ValueError, match="mip takes at least one tensor"):
        mip([])


def test_the_draws():
    draw = torch.Generator().manual_seed(0)
    first, second = shuffle_rows(1, [3, 5, 7], draw)  # of modalities 0 and 2
    assert sorted(first[:3].tolist()) == [0, 1, 2]
    assert first[3:6].tolist() == first[:3].tolist()
    assert sorted(second.tolist()) == list(range(7))
    assert len(first) == 7
    one, two = draw_rows(0, [3, 5, 7], 200, draw)
    assert (set(one.tolist()), set(two.tolist())) == (set(range(5)), set(range(7)))
    xs = three_rows()
    values = {symile(xs, 5.0, negatives="shuffled", generator=draw.manual_seed(s)).item() for s in (1, 1, 2)}
    assert len(values) == 2


@pytest.mark.parametrize("negatives", ["all", "partial", "shuffled", 3])
@pytest.mark.parametrize(
    ("lengths", "ids"),
    [((0, 0, 0), None), ((2, 0, 3), None), ((2, 2, 2), ([0, 1], [0, 1], [2, 3])), ((2, 1, 1), ([-1, -1], [-1], [-1]))],
)
def test_nothing_is_complete(negatives, lengths, ids):
    xs = rows(*lengths)
    scale = torch.ones(1, requires_grad=True)
    samples = None if ids is None else [torch.tensor(x) for x in ids]
    for groups in (None, [torch.zeros(n, dtype=torch.int64) for n in lengths]):
        loss = symile(xs, scale, negatives=negatives, samples=samples, groups=groups)
        assert (loss.item(), loss.shape) == (0, ())
        for x, grad in zip([*xs, scale], torch.autograd.grad(loss, [*xs, scale]), strict=True):
            assert torch.equal(grad, torch.zeros_like(x))


@pytest.mark.parametrize("negatives", ["all", "partial", "shuffled", 3])
def test_one_sample_alone_costs_nothing(negatives):
    loss = symile(xs := rows(1, 1, 1), 5.0, negatives=negatives)
    assert abs(loss.item()) < 1e-12
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(loss, xs))


def test_logits_are_float32_at_least():
    xs = [x.detach().bfloat16() for x in rows(8, 8, 8, dim=32)]
    expected = symile([x.double() for x in xs], 500.0)
    with torch.autocast("cpu", torch.bfloat16):
        got = symile(xs, 500.0)
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("contrasts at least two modalities; got 1", {"embeddings": rows(3)}),
        ("samples are given for each of the 3 modalities; got 2", {"samples": [torch.arange(3)] * 2}),
        (r"groups\[1\] has shape \(2,\); its rows need \(3,\)", {"groups": [torch.arange(n) for n in (3, 2, 3)]}),
        ("negatives is 'all', 'shuffled', 'partial' or a number of tuples above 0; got 0", {"negatives": 0}),
        ("got 'some'", {"negatives": "some"}),
        ("got True", {"negatives": True}),
    ],
)
def test_what_does_not_fit(message, change):
    with pytest.raises(ValueError, match=message):
        symile(**({"embeddings": rows(3, 3, 3), "scale": 1.0} | change))


grid = [(m, d) for m in (2, 3, 4, 5) for d in (16, 128, 512, 1024)]


def started(modalities: int, dim: int, **options) -> Symile:
    loss = Symile(**options)
    loss.start(dim=dim, modalities=modalities, batch=64)
    return loss


@pytest.mark.parametrize(("modalities", "dim"), grid)
def test_a_random_batch_is_not_flat_at_the_start(modalities, dim):
    draw = torch.Generator().manual_seed(0)
    xs = [F.normalize(torch.randn(4000, dim, generator=draw), dim=1) for _ in range(modalities)]
    logits = started(modalities, dim).scale.detach() * mip(xs)
    assert 0.9 < logits.std().item() < 5
    assert logits.std().item() == pytest.approx(max(10 / math.sqrt(dim), 1), rel=0.15)


@pytest.mark.parametrize(("modalities", "dim"), few(grid, 4))
def test_it_trains_from_its_start(modalities, dim):
    """Linear towers over noisy views of a shared latent; at CLIP's 14.3 the gradient is 1e-3 and less here."""
    draw = torch.Generator().manual_seed(0)
    latent = torch.randn(6, 8, generator=draw)
    views = [latent @ torch.randn(8, 16, generator=draw) for _ in range(modalities)]
    views = [x + 0.1 * torch.randn(6, 16, generator=draw) for x in views]
    towers = [torch.nn.Parameter(torch.randn(16, dim, generator=draw) / 4) for _ in range(modalities)]
    loss = started(modalities, dim)
    optimizer = torch.optim.Adam([*towers, *loss.parameters()], lr=1e-2)
    samples = [torch.arange(6)] * modalities
    history = []
    for _ in range(50):
        embeddings = [F.normalize(x @ w, dim=1) for x, w in zip(views, towers, strict=True)]
        value = loss(embeddings, samples)
        optimizer.zero_grad()
        value.backward()
        if not history:
            lengths = [tower.grad.norm().item() for tower in towers if tower.grad is not None]
            assert min(lengths) > 0.1  # alive
        optimizer.step()
        loss.clamp_()
        history.append(value.item())
    assert history[-1] < 0.1 * history[0]


def test_the_start_and_the_limit_are_derived():
    loss = started(3, 512)
    assert loss.log_scale.shape == (1,)
    assert loss.scale.item() == pytest.approx(512, rel=1e-5)
    assert started(3, 64).scale.item() == pytest.approx(10 * 8, rel=1e-5)
    with torch.no_grad():
        loss.log_scale.fill_(20.0)
    loss.clamp_()
    assert loss.scale.item() == pytest.approx(100 * math.sqrt(512), rel=1e-5)
    mine = started(3, 512, start_scale=7.0, max_scale=9.0)
    assert (mine.scale.item(), mine.limit) == (pytest.approx(7), 9.0)


def test_the_module_is_the_function():
    xs = three_rows()
    loss = started(3, 4, negatives="shuffled").double()
    got = loss(
        xs,
        three["samples"],
        groups=three["groups"],
        weights=three["weights"],
        generator=torch.Generator().manual_seed(5),
    )
    draw = torch.Generator().manual_seed(5)
    assert torch.equal(got, symile(xs, loss.scale, negatives="shuffled", generator=draw, **three))


def test_a_module_that_was_not_started_says_so():
    with pytest.raises(ValueError, match=r"call start\(dim, modalities, batch\) once before training"):
        Symile()(three_rows(), three["samples"])


def test_spread_is_the_mean_square_between_rows():
    (x,) = rows(5)
    expected = sum((x[i] @ x[j]) ** 2 for i in range(5) for j in range(5) if i != j) / 20
    equal(spread(x), expected, [x])
    assert spread(x[:1]).item() == 0
    assert spread(x[:0]).item() == 0
    same = torch.ones(4, 9, dtype=torch.float64) / 3
    assert spread(same).item() == pytest.approx(1)
    assert spread(torch.eye(4)).item() == 0


def test_the_module_adds_spread_of_each_modality():
    xs = three_rows()
    plain, spreading = (Symile("partial", start_scale=6.0, spread=w).double() for w in (0.0, 0.5))
    difference = spreading(xs, three["samples"]) - plain(xs, three["samples"])
    torch.testing.assert_close(difference, 0.5 * sum(spread(x) for x in xs))
