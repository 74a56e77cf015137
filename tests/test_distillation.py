"""distill and regress against plain loops; the teacher gets no gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from test_infonce import equal, rows

from align.losses import Distill, Regress, distill, regress

ids = [  # the student's a and b, the teacher's: two captions, a sample that only one side has, a hard negative
    torch.tensor([0, 1, 2, 4]),
    torch.tensor([0, 0, 1, -1, 2, 3]),
    torch.tensor([2, 0, 5, 1]),
    torch.tensor([0, 1, 0, 0, 2, -1]),
]
weight_a = torch.tensor([1.0, 0.5, 2.0, 3.0], dtype=torch.float64)
weight_b = torch.tensor([1.0, 0.0, 2.0, 1.0, 0.5, 1.0], dtype=torch.float64)


def matched(sample, teacher):
    """(row, the teacher's row) of the k-th of each sample."""
    found = []
    for i, s in enumerate(sample.tolist()):
        turn = sample[:i].tolist().count(s)
        places = [j for j, t in enumerate(teacher.tolist()) if t == s]
        if s >= 0 and turn < len(places):
            found.append((i, places[turn]))
    return found


def loop(a, b, teacher_a, teacher_b, scale, teacher_scale, weight_a, weight_b):
    """One anchor after the other, one candidate after the other."""
    of_a, of_b = matched(ids[0], ids[2]), matched(ids[1], ids[3])
    directions = []
    for x, y, tx, ty, of_x, of_y, w in (
        (a, b, teacher_a, teacher_b, of_a, of_b, weight_a),
        (b, a, teacher_b, teacher_a, of_b, of_a, weight_b),
    ):
        total, count = 0.0, 0.0
        for i, ti in of_x:
            p = [torch.exp(teacher_scale * (tx[ti] * ty[tj]).sum()) for _, tj in of_y]
            q = [torch.exp(scale * (x[i] * y[j]).sum()) for j, _ in of_y]
            p, q = [e / sum(p) for e in p], [e / sum(q) for e in q]
            total = total + w[i] * sum(pj * torch.log(pj / qj) for pj, qj in zip(p, q, strict=True))
            count = count + w[i]
        directions.append(total / count)
    return sum(directions) / 2


def test_distill_equals_the_loop():
    a, b = rows(4, 6)
    teacher = [x.detach() for x in rows(4, 6, dim=9, seed=1)]  # a width of its own
    scale = torch.tensor([7.0], dtype=torch.float64, requires_grad=True)
    got = distill(a, b, *teacher, scale, 5.0, samples=ids, weight_a=weight_a, weight_b=weight_b)
    equal(got, loop(a, b, *teacher, 1.0 * scale, 5.0, weight_a, weight_b), [a, b, scale])
    got = distill(a, b, *teacher, scale, 5.0, samples=ids)
    equal(got, loop(a, b, *teacher, 1.0 * scale, 5.0, torch.ones(4), torch.ones(6)), [a, b, scale])


def test_distill_without_ids_is_torchs_kl_and_zero_at_the_teacher():
    a, b, c, d = rows(5, 5, 5, 5)
    student, teacher = 4 * a @ b.T, 9 * (c @ d.T).detach()
    expected = [
        F.kl_div(s.log_softmax(1), t.log_softmax(1), reduction="batchmean", log_target=True)
        for s, t in ((student, teacher), (student.T, teacher.T))
    ]
    equal(distill(a, b, c, d, 4.0, 9.0), (expected[0] + expected[1]) / 2, [a, b])
    assert abs(distill(a, b, a, b, 9.0, 9.0).item()) < 1e-14


def test_the_teacher_gets_no_gradient():
    xs = rows(4, 4, 4, 4)
    for loss, teachers in ((distill(*xs, 5.0, 5.0), xs[2:]), (regress(xs[0], xs[2]), xs[2:3])):
        for grad in torch.autograd.grad(loss, teachers, retain_graph=True):
            assert not grad.any()  # a zero, not None: DDP waits for every parameter of a teacher's head
        assert torch.autograd.grad(loss, xs[0])[0].any()


@pytest.mark.parametrize("distance", ["cosine", "squared", "absolute"])
def test_regress_equals_the_loop(distance):
    a, t = (3 * x for x in rows(6, 6))
    total, count = 0.0, 0.0
    for i, j in matched(ids[1], ids[3]):
        cost = (a[i] - t[j]).square().sum()
        if distance == "absolute":
            cost = (a[i] - t[j]).abs().sum()
        if distance == "cosine":
            cost = 1 - (a[i] * t[j]).sum() / (a[i].norm() * t[j].norm())
        total = total + weight_b[i] * cost
        count = count + weight_b[i]
    got = regress(a, t, distance=distance, sample_a=ids[1], sample_teacher=ids[3], weight_a=weight_b)
    equal(got, total / count, [a])


@pytest.mark.parametrize(
    ("n_a", "n_t", "samples"),
    [(0, 0, None), (0, 3, None), (3, 0, None), (2, 2, ([0, 1], [2, 3])), (2, 2, ([-1, -1], [-1, -1]))],
)
def test_nothing_pairs(n_a, n_t, samples):
    a, b, c, d = rows(n_a, 3, n_t, 3)
    scale = torch.ones(1, requires_grad=True)
    mine, theirs = (None, None) if samples is None else map(torch.tensor, samples)
    three = torch.arange(3)
    each = None if mine is None else [mine, three, theirs, three]
    turned = None if mine is None else [three, mine, three, theirs]
    for distance in ("cosine", "squared", "absolute"):
        loss = regress(a, c, distance=distance, sample_a=mine, sample_teacher=theirs)
        assert (loss.item(), loss.shape) == (0, ())
        assert torch.equal(torch.autograd.grad(loss, a)[0], torch.zeros_like(a))
    for loss in (distill(a, b, c, d, scale, samples=each), distill(b, a, d, c, scale, samples=turned)):
        assert (loss.item(), loss.shape) == (0, ())
        for x, grad in zip((a, b, scale), torch.autograd.grad(loss, [a, b, scale]), strict=True):
            assert torch.equal(grad, torch.zeros_like(x))


def test_logits_are_float32_at_least():
    xs = [x.detach().bfloat16() for x in rows(16, 16, 16, 16, dim=64)]
    wide = [x.double() for x in xs]
    with torch.autocast("cpu", torch.bfloat16):
        low = distill(*xs, 50.0), regress(xs[0], xs[1])
    assert {x.dtype for x in low} == {torch.float32}
    torch.testing.assert_close(low[0], distill(*wide, 50.0).float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(low[1], regress(wide[0], wide[1]).float())


def test_the_modules_are_the_functions():
    xs = rows(4, 6, 4, 6)
    made = Distill(teacher_scale=30.0, start_scale=5.0).double()
    made.start(dim=5, modalities=4, batch=8)
    weights = [weight_a, weight_b, weight_a, weight_b]
    expected = distill(*xs, made.scale, 30.0, samples=ids, weight_a=weight_a, weight_b=weight_b)
    assert torch.equal(made(xs, ids, groups=ids, weights=weights), expected)
    expected = regress(xs[0], xs[2], distance="squared", sample_a=ids[0], sample_teacher=ids[2], weight_a=weight_a)
    assert torch.equal(Regress("squared")([xs[0], xs[2]], [ids[0], ids[2]], weights=[weight_a, weight_a]), expected)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        (
            "distill takes samples of a, b, teacher_a and teacher_b; got 2",
            lambda xs: distill(*xs, 1.0, samples=ids[:2]),
        ),
        (
            r"samples of teacher_a has shape \(6,\)",
            lambda xs: distill(*xs, 1.0, samples=[ids[0], ids[0], ids[1], ids[0]]),
        ),
        (r"one D; got shapes \(4, 5\), \(4, 4\)", lambda xs: distill(*xs[:3], torch.ones(4, 4), 1.0)),
        ("teacher_scale is one number", lambda xs: distill(*xs, 1.0, torch.ones(2))),
        ("teacher_scale is a positive number; got 0", lambda xs: Distill(teacher_scale=0)),
        ("distance is 'cosine' or 'squared' or 'absolute'; got 'l1'", lambda xs: regress(xs[0], xs[1], distance="l1")),
        ("distance is 'cosine' or 'squared' or 'absolute'; got 'l1'", lambda xs: Regress("l1")),  # type: ignore[arg-type]
    ],
)
def test_what_does_not_fit(message, call):
    with pytest.raises(ValueError, match=message):
        call(rows(4, 4, 4, 4))
