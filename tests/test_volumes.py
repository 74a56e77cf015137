"""gram and triangle against loops over torch's own determinant and Heron's formula, and where both are degenerate."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from test_infonce import equal, rows

from align.losses import Gram, Triangle, gram, gram_volume, infonce, triangle, triangle_area
from align.losses.gram import volumes
from align.losses.triangle import areas
from align.scoring import score
from align.values import TermInfo

ids = [  # two rows of a sample, a modality missing in some, hard negatives
    torch.tensor([0, 1, 2, 2, 7]),
    torch.tensor([2, 0, 1, -1, 5]),
    torch.tensor([1, 2, 0, 0, 2, 5]),
    torch.tensor([0, 2, 1, -1]),
]
groups = [
    torch.tensor([3, 3, 1, 1, -1]),
    torch.tensor([1, 3, 3, -1, -1]),
    torch.tensor([3, 1, 3, 3, 1, -1]),
    torch.tensor([3, 1, 3, -1]),
]
weights = [torch.linspace(0, 2, len(x), dtype=torch.float64) for x in ids]


def volume(xs):
    return torch.linalg.det(torch.stack([torch.stack([(x * y).sum() for y in xs]) for x in xs])).sqrt()


def heron(xs):
    a, b, c = (torch.linalg.vector_norm(x - y) for x, y in itertools.combinations(xs, 2))
    s = (a + b + c) / 2
    return (s * (s - a) * (s - b) * (s - c)).sqrt()


def loop(measure, xs, scale, anchor="all", samples=None, groups=None, weights=None):
    """One anchor after the other against one tuple after the other, and back."""
    samples = samples or [torch.arange(len(x)) for x in xs]
    values = []
    for m in range(len(xs)) if anchor == "all" else [anchor]:
        others = [o for o in range(len(xs)) if o != m]
        tuples = []
        for t in itertools.product(*(range(len(xs[o])) for o in others)):
            of = {int(samples[o][row]) for o, row in zip(others, t, strict=True)}
            if len(of) == 1 and (of != {-1} or len(others) == 1):
                tuples.append((t, of.pop()))

        def cross_entropy(own, logits, alike):
            kept = [x for k, x in enumerate(logits) if k in own or not alike[k]]
            return torch.stack(kept).logsumexp(0) - sum(logits[k] for k in own) / len(own)

        logits, alike = {}, {}
        for i, (k, (t, _)) in itertools.product(range(len(xs[m])), enumerate(tuples)):
            logits[i, k] = -scale * measure([xs[m][i], *(xs[o][row] for o, row in zip(others, t, strict=True))])
            alike[i, k] = groups is not None and all(
                groups[m][i] >= 0 and groups[m][i] == groups[o][row] for o, row in zip(others, t, strict=True)
            )
        costs, counts = [0.0, 0.0], [0.0, 0.0]
        for i in range(len(xs[m])):
            own = [k for k, (_, sample) in enumerate(tuples) if sample >= 0 and sample == samples[m][i]]
            if own:
                w = 1.0 if weights is None else weights[m][i]
                row = [logits[i, k] for k in range(len(tuples))]
                costs[0] = costs[0] + w * cross_entropy(own, row, [alike[i, k] for k in range(len(tuples))])
                counts[0] += w
        for k, (t, sample) in enumerate(tuples):
            own = [i for i in range(len(xs[m])) if sample >= 0 and sample == samples[m][i]]
            if own:
                w = 1.0
                if weights is not None:
                    w = sum(weights[o][row] for o, row in zip(others, t, strict=True)) / len(others)
                column = [logits[i, k] for i in range(len(xs[m]))]
                costs[1] = costs[1] + w * cross_entropy(own, column, [alike[i, k] for i in range(len(xs[m]))])
                counts[1] += w
        values.append((costs[0] / counts[0] + costs[1] / counts[1]) / 2)
    return sum(values) / len(values)


cases = [(gram, volume, 2), (gram, volume, 3), (gram, volume, 4), (triangle, heron, 3)]


@pytest.mark.parametrize(("loss", "measure", "M"), cases)
@pytest.mark.parametrize("extra", [(), ("groups",), ("weights",), ("groups", "weights")])
def test_equals_the_loop(loss, measure, M, extra):
    xs = rows(*(len(x) for x in ids[:M]), dim=6)
    scale = torch.tensor([6.0], dtype=torch.float64, requires_grad=True)
    more = {name: {"groups": groups, "weights": weights}[name][:M] for name in extra}
    for anchor in ("all", M - 1) if extra else ("all", *range(M)):
        got = loss(xs, scale, anchor=anchor, samples=ids[:M], **more)
        equal(got, loop(measure, xs, scale, anchor, ids[:M], **more), [*xs, scale])


def test_without_ids_row_i_belongs_to_sample_i():
    xs = rows(4, 4, 4)
    equal(gram(xs, 9.0, anchor=2), loop(volume, xs, 9.0, anchor=2), xs)
    equal(triangle(xs, 9.0), loop(heron, xs, 9.0), xs)


def test_two_modalities_are_infonce_over_sines():
    """A volume of two is a sine: in the plane, of angles between 0 and 90 degrees, turned into a product of vectors."""
    angles = torch.rand(2, 5, dtype=torch.float64) * 0.7 + torch.tensor([[0.8], [0.0]])
    a, b = torch.stack([angles.cos(), angles.sin()], -1)
    turned = torch.stack([b[:, 1], -b[:, 0]], -1)  # <a, turned b> = -sin(a - b)
    torch.testing.assert_close(gram([a, b], 8.0), infonce(a, turned, 8.0))


@pytest.mark.parametrize("M", [1, 2, 3, 4, 5, 6])
def test_the_volume_of_any_number(M):
    xs = rows(*[3] * M, dim=9)
    got = gram_volume(xs)
    expected = torch.stack([volume([x[i] for x in xs]) for i in range(3)])
    equal(got.sum(), expected.sum(), xs)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    if M > 1:
        pairs = volumes(xs[0], xs[1:])
        torch.testing.assert_close(pairs.diagonal(), expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(pairs[1, 2], volume([xs[0][1], *(x[2] for x in xs[1:])]), rtol=1e-12, atol=1e-12)
    near = [F.normalize(xs[0] + 0.01 * x, dim=1).float() for x in xs]  # a volume of 1e-8 and less for the largest M
    wide = gram_volume([x.double() for x in near])
    torch.testing.assert_close(gram_volume(near), wide.float(), rtol=0, atol=1e-3)
    torch.testing.assert_close(
        volumes(near[0], near[1:]).diagonal() if M > 1 else wide.float(), wide.float(), rtol=0, atol=1e-3
    )


def test_the_area_is_herons():
    a, b, c = rows(3, 3, 3)
    expected = torch.stack([heron([a[i], b[i], c[i]]) for i in range(3)])
    equal(triangle_area(a, b, c).sum(), expected.sum(), [a, b, c])
    torch.testing.assert_close(areas(a, [b, c]).diagonal(), expected, rtol=1e-12, atol=1e-12)
    corners = torch.eye(3)
    assert triangle_area(*corners).item() == pytest.approx(3**0.5 / 2)
    assert gram_volume([*corners]).item() == pytest.approx(1)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (1, 1, 1), (1, -1, 1), (1, -1, -1), (1, 1, 1, -1), (0, 1, 1)])
@pytest.mark.parametrize("dim", [1, 64])
def test_identical_and_antiparallel_vectors_have_finite_gradients(kind, signs, dim):
    base = F.normalize(torch.randn(8, dim, generator=torch.Generator().manual_seed(0)), dim=1)
    xs = [(sign * base).to(kind).requires_grad_() for sign in signs]
    losses = [gram(xs, 100.0), gram_volume(xs).sum(), gram_volume([x[0] for x in xs])]
    if len(xs) == 3:
        losses += [triangle(xs, 100.0), triangle_area(*xs).sum()]
    for loss in losses:
        assert loss.isfinite()
        assert loss.dtype == torch.promote_types(kind, torch.float32)
        assert all(grad.isfinite().all() and grad.abs().max() < 10 for grad in torch.autograd.grad(loss, xs))
    if 0 not in signs:
        assert gram_volume(xs).abs().max() == 0


@pytest.mark.parametrize("shift", [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7])
def test_gradients_near_the_degenerate_do_not_jump(shift):
    draw = torch.Generator().manual_seed(0)
    base = F.normalize(torch.randn(16, 64, generator=draw), dim=1)
    xs = [F.normalize(base + shift * torch.randn(16, 64, generator=draw), dim=1).requires_grad_() for _ in range(3)]
    for loss in (gram, triangle):
        assert max(grad.abs().max().item() for grad in torch.autograd.grad(loss(xs, 100.0), xs)) < 10


@pytest.mark.parametrize("loss", [gram, triangle])
@pytest.mark.parametrize(
    ("lengths", "samples"),
    [
        ((0, 0, 0), None),
        ((0, 3, 3), None),
        ((3, 0, 3), None),
        ((2, 2, 2), [[0, 1], [2, 3], [4, 5]]),
        ((2, 2, 2), [[0, 1], [0, 1], [4, 5]]),
        ((2, 2, 2), [[-1, -1]] * 3),
    ],
)
def test_nothing_pairs(loss, lengths, samples):
    xs = rows(*lengths)
    scale = torch.ones(1, requires_grad=True)
    for anchor in ("all", 0, 1):
        value = loss(xs, scale, anchor=anchor, samples=samples and [torch.tensor(s) for s in samples])
        assert (value.item(), value.shape) == (0, ())
        for x, grad in zip((*xs, scale), torch.autograd.grad(value, [*xs, scale]), strict=True):
            assert torch.equal(grad, torch.zeros_like(x))


@pytest.mark.parametrize(("loss", "module"), [(gram, Gram), (triangle, Triangle)])
def test_the_module_is_the_function(loss, module):
    xs = rows(5, 5, 6)
    made = module(anchor=1, start_scale=5.0, max_scale=8.0).double()
    made.start(dim=5, modalities=3, batch=8)
    got = made(xs, ids[:3], groups=groups[:3], weights=weights[:3])
    expected = loss(xs, made.scale, anchor=1, samples=ids[:3], groups=groups[:3], weights=weights[:3])
    assert torch.equal(got, expected)
    assert (made.scale.item(), made.limit) == (pytest.approx(5), 8)


@pytest.mark.parametrize(("kind", "measure"), [("volume", volume), ("area", heron)])
def test_scoring_reads_minus_the_volume(kind, measure):
    text, audio, images = (x.detach() for x in rows(2, 2, 3))
    terms = [TermInfo(("audio", "image", "text"), kind, 7.0), TermInfo(("audio", "image"), "pairwise", 3.0)]
    got = score({"text": text, "audio": audio}, images, "objective", of="image", terms=terms)
    for i, j in itertools.product(range(2), range(3)):
        expected = -7 * measure([text[i], audio[i], images[j]]) + 3 * (audio[i] * images[j]).sum()
        assert got[i, j].item() == pytest.approx(expected.item(), abs=1e-12)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("at least two modalities; got 1", lambda xs: gram(xs[:1], 1.0)),
        ("a triangle has three modalities; got 2", lambda xs: triangle(xs[:2], 1.0)),
        ("anchor is 'all' or the place of one modality of the 3, 0 to 2; got 3", lambda xs: gram(xs, 1.0, anchor=3)),
        ("anchor is 'all' or the place of one modality; got 'text'", lambda xs: Gram(anchor="text")),
        ("anchor is 'all' or the place of one modality of the 3, 0 to 2; got -1", lambda xs: Triangle(anchor=-1)),
        ("samples are given for each of the 3 modalities; got 2", lambda xs: gram(xs, 1.0, samples=ids[:2])),
        ("weights are given for each of the 3", lambda xs: triangle(xs, 1.0, weights=weights[:2])),
        (
            r"samples\[1\] has shape \(6,\); its rows need \(4,\)",
            lambda xs: gram(xs, 1.0, samples=[ids[3], ids[2], ids[3]]),
        ),
        ("gram_volume takes at least one tensor", lambda xs: gram_volume([])),
    ],
)
def test_what_does_not_fit(message, call):
    with pytest.raises(ValueError, match=message):
        call(rows(4, 4, 4))
