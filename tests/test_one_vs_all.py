"""one_vs_all against a loop over inverses, pull_to_mean against a loop over samples, and where both are degenerate."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from test_infonce import equal, rows
from test_volumes import groups, ids, loop, weights

from align.losses import OneVsAll, PullToMean, one_vs_all, pull_to_mean, span_lengths
from align.scoring import score
from align.search.linear import one_vector
from align.values import TermInfo


def minus_length(xs):
    """Minus the length of the first vector's projection on the span of the others, with the ridge."""
    x, *others = xs
    if len(others) == 1:
        return -(x @ others[0]).abs() / (others[0] @ others[0] + 1e-3) ** 0.5
    X = torch.stack(others)
    v = X @ x
    return -(v @ torch.linalg.inv(X @ X.T + 1e-3 * torch.eye(len(X), dtype=X.dtype)) @ v).sqrt()


@pytest.mark.parametrize("M", [2, 3, 4])
@pytest.mark.parametrize("extra", [(), ("groups", "weights")])
def test_equals_the_loop(M, extra):
    xs = rows(*(len(x) for x in ids[:M]), dim=6)
    scale = torch.tensor([6.0], dtype=torch.float64, requires_grad=True)
    more = {name: {"groups": groups, "weights": weights}[name][:M] for name in extra}
    for anchor in ("all", M - 1):
        got = one_vs_all(xs, scale, anchor=anchor, samples=ids[:M], **more)
        equal(got, loop(minus_length, xs, scale, anchor, ids[:M], **more), [*xs, scale])


def test_the_length_is_the_cosine_to_the_span():
    """Of a vector in the plane of two others it is 1, of one across it 0, whatever the angle of the two."""
    e = torch.eye(4, dtype=torch.float64)
    tilted = F.normalize(e[0] + 0.5 * e[1], dim=0)
    got = span_lengths(torch.stack([e[1], e[2], F.normalize(e[1] + e[2], dim=0), -e[1]]), [e[:1], tilted[None]])
    torch.testing.assert_close(got[:, 0], torch.tensor([1.0, 0.0, 0.5**0.5, 1.0]).double(), rtol=0, atol=5e-3)


@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (1, 1, 1), (1, -1, -1), (1, 1, 1, -1), (0, 1, 1)])
def test_collinear_and_zero_vectors_have_finite_gradients(signs):
    base = F.normalize(torch.randn(8, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    for kind, shift in itertools.product((torch.float32, torch.bfloat16), (0, 1e-4, 1e-2)):
        near = torch.randn(len(signs), 8, 16, generator=torch.Generator().manual_seed(1))
        xs = [(s * base + shift * y).to(kind).requires_grad_() for s, y in zip(signs, near, strict=True)]
        loss = one_vs_all(xs, 100.0)
        assert loss.isfinite()
        assert loss.dtype == torch.float32
        assert all(grad.isfinite().all() and grad.abs().max() < 100 for grad in torch.autograd.grad(loss, xs))


def test_gradcheck():
    xs = [x.detach().requires_grad_() for x in rows(3, 3, 3, dim=4)]
    assert torch.autograd.gradcheck(lambda *x: one_vs_all(x, 3.0), xs)
    assert torch.autograd.gradcheck(lambda *x: pull_to_mean(x, samples=ids3, weights=weights3), xs)


ids3 = [torch.tensor([0, 1, -1]), torch.tensor([1, 1, 0]), torch.tensor([4, 1, 1])]
weights3 = [torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 1.0, 0.0]), torch.tensor([1.0, 1.0, 4.0])]


def pull_loop(xs, samples, weights):
    """One row after the other, towards the mean of the means of its sample's modalities."""
    costs = []
    for m, x in enumerate(xs):
        total, count = 0.0, 0.0
        for i in range(len(x)):
            s = int(samples[m][i])
            means = []
            for y, of in zip(xs, samples, strict=True):
                mine = [y[j] for j in range(len(y)) if s >= 0 and int(of[j]) == s]
                means += [sum(mine) / len(mine)] if mine else []
            if len(means) < 2:
                continue
            w = 1.0 if weights is None else weights[m][i]
            total = total + w * (x[i] - sum(means) / len(means)).square().sum()
            count = count + w
        if count:
            costs.append(total / count)
    return sum(costs) / len(costs)


@pytest.mark.parametrize("M", [2, 3, 4])
@pytest.mark.parametrize("weigh", [False, True])
def test_the_pull_equals_the_loop(M, weigh):
    xs = rows(*(len(x) for x in ids[:M]), dim=6)
    of_rows = weights[:M] if weigh else None
    equal(pull_to_mean(xs, samples=ids[:M], weights=of_rows), pull_loop(xs, ids[:M], of_rows), xs)
    module = PullToMean()
    assert torch.equal(module(xs, ids[:M], weights=of_rows), pull_to_mean(xs, samples=ids[:M], weights=of_rows))
    assert module.kind == "regulariser"


def test_a_modality_without_a_partner_does_not_count_in_the_pull():
    xs, owners = rows(2, 2, 2), [torch.tensor(s) for s in ([0, 1], [1, 0], [7, -1])]
    equal(pull_to_mean(xs, samples=owners), pull_loop(xs, owners, None), xs[:2])


def test_the_pull_is_zero_where_all_modalities_agree_and_alone():
    x = F.normalize(torch.randn(4, 5), dim=1)
    assert float(pull_to_mean([x, x.clone(), x.clone()])) < 1e-12
    lonely = [torch.tensor([0, 1, 2, 3]), torch.tensor([4, 5, 6, 7])]
    xs = [x.clone().requires_grad_() for _ in range(2)]
    value = pull_to_mean(xs, samples=lonely)
    assert value.item() == 0
    assert all(torch.equal(grad, torch.zeros_like(x)) for grad in torch.autograd.grad(value, xs))
    assert pull_to_mean([x[:0], x[:0]]).item() == 0


@pytest.mark.parametrize(
    "loss", [lambda xs, s: one_vs_all(xs, 5.0, samples=s), lambda xs, s: pull_to_mean(xs, samples=s)]
)
def test_the_order_of_rows_does_not_matter(loss):
    xs = [x.detach() for x in rows(*(len(x) for x in ids[:3]), dim=6)]
    draws = [torch.randperm(len(x), generator=torch.Generator().manual_seed(m)) for m, x in enumerate(xs)]
    moved = loss([x[d] for x, d in zip(xs, draws, strict=True)], [s[d] for s, d in zip(ids[:3], draws, strict=True)])
    torch.testing.assert_close(moved, loss(xs, ids[:3]), rtol=1e-12, atol=0)


def test_nothing_pairs():
    for owners in ([[], [0, 1], [0, 1]], [[-1, -1]] * 3, [[0, 1], [2, 3], [4, 5]]):
        xs = rows(*(len(owner) for owner in owners))
        scale = torch.ones(1, requires_grad=True)
        value = one_vs_all(xs, scale, samples=[torch.tensor(owner, dtype=torch.int64) for owner in owners])
        assert (value.item(), value.shape) == (0, ())
        for x, grad in zip((*xs, scale), torch.autograd.grad(value, [*xs, scale]), strict=True):
            assert torch.equal(grad, torch.zeros_like(x))


def test_scoring_reads_the_span():
    text, audio, images = (x.detach() for x in rows(2, 2, 3))
    terms = [TermInfo(("audio", "image", "text"), "span", 7.0), TermInfo(("audio", "image"), "pairwise", 3.0)]
    query = {"text": text, "audio": audio}
    got = score(query, images, "objective", of="image", terms=terms)
    for i, j in itertools.product(range(2), range(3)):
        expected = -7 * minus_length([images[j], text[i], audio[i]]) + 3 * (audio[i] * images[j]).sum()
        assert got[i, j].item() == pytest.approx(expected.item(), abs=1e-12)
    assert one_vector(query, "objective", "image", terms) is None


def test_the_module_is_the_function():
    xs = rows(5, 5, 6)
    made = OneVsAll(anchor=1, start_scale=5.0, max_scale=8.0).double()
    made.start(dim=5, modalities=3, batch=8)
    got = made(xs, ids[:3], groups=groups[:3], weights=weights[:3])
    expected = one_vs_all(xs, made.scale, anchor=1, samples=ids[:3], groups=groups[:3], weights=weights[:3])
    assert torch.equal(got, expected)
    with pytest.raises(ValueError, match="at least two modalities; got 1"):
        one_vs_all(xs[:1], 1.0)
    with pytest.raises(ValueError, match=r"samples\[1\] has shape \(6,\); its rows need \(5,\)"):
        pull_to_mean(xs, samples=[ids[0], ids[2], ids[2]])
