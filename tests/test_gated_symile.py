"""gated_symile against a loop over every candidate and tuple, its gate, and a modality that is wrong now and then."""

from __future__ import annotations

import itertools

import pytest
import torch
from test_infonce import equal, rows
from test_volumes import groups, ids, weights
from test_volumes import loop as anchored_loop
from torch.nn.functional import softplus

from align.losses import GatedSymile, Symile, gated_symile, mip

neutrals = [x[0].detach() for x in rows(1, 1, 1, 1, dim=6, seed=3)]


def gate(c, x, of, other):
    """A gate that tells all four of its arguments apart."""
    return torch.sigmoid((c * (of + 1)) @ x.roll(other, 1).T + 0.3 * of - 0.2 * other)


def minus_product(m, gate, neutral):
    """Minus the product of a candidate of modality m with the mixed rows of the others."""

    def measure(vectors):
        c, *others = vectors
        product = c
        for o, x in zip([o for o in range(len(neutral)) if o != m], others, strict=True):
            g = gate(c[None], x[None], m, o).reshape(())
            y = g * x + (1 - g) * neutral[o]
            product = product * y / y.square().sum().sqrt()
        return -product.sum()

    return measure


def loop(xs, scale, gate, neutral, samples, fill=False, **more):
    """Each modality as the candidates of test_volumes' loop, the others with stand-ins where a sample lacks them."""
    values = []
    for m in range(len(xs)):
        at = [list(x) for x in (xs, samples)] + [list(more[k]) if k in more else None for k in ("groups", "weights")]
        for o in range(len(xs)) if fill else ():
            if o == m:
                continue
            for s in sorted({int(s) for of in samples for s in of if s >= 0}):
                has = [k for k in range(len(xs)) if s in samples[k]]
                if o in has or len(has) < 2:
                    continue
                first = samples[has[0]].tolist().index(s)
                at[0][o] = torch.cat([at[0][o], neutral[o][None]])
                at[1][o] = torch.cat([at[1][o], torch.tensor([s])])
                for i, name in ((2, "groups"), (3, "weights")):
                    if at[i] is not None:
                        at[i][o] = torch.cat([at[i][o], more[name][has[0]][first][None]])
        extra = {name: at[i] for i, name in ((2, "groups"), (3, "weights")) if at[i] is not None}
        values.append(anchored_loop(minus_product(m, gate, neutral), at[0], scale, m, at[1], **extra))
    return sum(values) / len(values)


both = ("groups", "weights")


@pytest.mark.parametrize(
    ("M", "missing", "extra"),
    [
        (2, "complete", both),
        (2, "neutral", ()),
        (3, "complete", ()),
        (3, "complete", both),
        (3, "neutral", ()),
        (3, "neutral", both),
        (4, "complete", ()),
        (4, "neutral", both),
    ],
)
def test_equals_the_loop(M, missing, extra):
    xs = rows(*(len(x) for x in ids[:M]), dim=6)
    scale = torch.tensor([6.0], dtype=torch.float64, requires_grad=True)
    neutral = [v.clone().requires_grad_() for v in neutrals[:M]]
    more = {name: {"groups": groups, "weights": weights}[name][:M] for name in extra}
    got = gated_symile(xs, scale, gate, neutral, missing=missing, samples=ids[:M], **more)
    unit = [v / v.square().sum().sqrt() for v in neutral]
    expected = loop(xs, scale, gate, unit, ids[:M], fill=missing == "neutral", **more)
    equal(got, expected, [*xs, scale, *neutral])


def made(dim=6, M=3, **options):
    torch.manual_seed(0)
    loss = GatedSymile(**options).double()
    loss.start(dim, M, 8)
    with torch.no_grad():
        for name, p in loss.named_parameters():
            if name not in ("log_scale", "gate.sharpness"):
                p.add_(0.3 * torch.randn_like(p))
    return loss


def formula(loss):
    """The gate of one candidate and one row, as its docstring has it."""

    def gate(c, x, of, other):
        own = loss.gate
        heat = softplus(own.sharpness) + 0.1
        q, k = own.query[of] @ c[0], own.key[other] @ x[0]
        cosine = (q * k).sum() / (q.square().sum() * k.square().sum()).sqrt()
        null = torch.sigmoid(((own.null[of] * c[0]).sum() + own.null_bias[of]) / heat)
        w = torch.sigmoid(cosine / heat) * (1 - null)
        return 1 - torch.sigmoid(own.strength) * (1 - w)

    return gate


def test_the_module_is_the_function_with_its_gate():
    xs, loss = rows(*(len(x) for x in ids[:3]), dim=6), made(missing="neutral", width=4)
    got = loss(xs, ids[:3], groups=groups[:3], weights=weights[:3])
    unit = [v / v.square().sum().sqrt() for v in loss.neutral]
    more = {"groups": groups[:3], "weights": weights[:3]}
    expected = loop(xs, loss.scale, formula(loss), unit, ids[:3], fill=True, **more)
    equal(got, expected, [*xs, *loss.parameters()])
    assert {name: tuple(p.shape) for name, p in loss.named_parameters()} == {
        "log_scale": (1,), "neutral": (3, 6), "gate.query": (3, 4, 6), "gate.key": (3, 4, 6), "gate.null": (3, 6),
        "gate.null_bias": (3, 1), "gate.sharpness": (1,), "gate.strength": (1,),
    }  # fmt: skip


def test_the_score_of_a_query_is_the_logit():
    loss = made()
    a, b, c = (x.detach() for x in rows(2, 2, 4, dim=6))
    unit = [v / v.square().sum().sqrt() for v in loss.neutral]
    for of, query in ((2, [a, b]), (1, [a, None]), (0, [None, b])):
        others = [o for o in range(3) if o != of]
        got, measure = loss.score(c, query, of), minus_product(of, formula(loss), unit)
        for i, j in itertools.product(range(2), range(4)):
            vectors = [unit[o] if x is None else x[i] for o, x in zip(others, query, strict=True)]
            expected = -loss.scale * measure([c[j], *vectors])
            assert got[i, j].item() == pytest.approx(expected.item(), rel=1e-10)


def test_an_open_gate_is_the_plain_product():
    xs = [x.detach() for x in rows(4, 4, 4, dim=6)]
    loss = made()
    with torch.no_grad():
        loss.gate.strength.fill_(-60.0)
    plain = torch.stack([mip([xs[0][i], xs[1][i], x]) for i in range(4) for x in xs[2]]).reshape(4, 4)
    torch.testing.assert_close(loss.score(xs[2], xs[:2], 2) / loss.scale, plain)
    symile = Symile()
    symile.start(6, 3, 8)
    assert (loss.scale.item(), loss.limit) == (pytest.approx(symile.scale.item()), symile.limit)
    loss.start(64, 3, 8)
    assert (loss.scale.item(), loss.limit) == (pytest.approx(80), 800)


def test_gradcheck_and_a_row_opposite_to_its_neutral_direction():
    xs, loss = rows(2, 3, 2, dim=3), made(dim=3)
    owners = [torch.tensor([0, 1]), torch.tensor([1, 0, 0]), torch.tensor([0, -1])]
    assert torch.autograd.gradcheck(lambda *x: loss(x, owners), [x.detach().requires_grad_() for x in xs])
    opposite = [(-v.detach()[None]).repeat(2, 1).requires_grad_() for v in neutrals[:3]]
    value = gated_symile(opposite, 10.0, lambda c, x, *_: 0.5 * torch.ones(len(c), len(x)).to(c), neutrals[:3])
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(value, opposite))


def test_the_order_of_rows_does_not_matter():
    xs, loss = [x.detach() for x in rows(*(len(x) for x in ids[:3]), dim=6)], made(missing="neutral")
    draws = [torch.randperm(len(x), generator=torch.Generator().manual_seed(m)) for m, x in enumerate(xs)]
    moved = loss([x[d] for x, d in zip(xs, draws, strict=True)], [s[d] for s, d in zip(ids[:3], draws, strict=True)])
    torch.testing.assert_close(moved, loss(xs, ids[:3]), rtol=1e-12, atol=0)


@pytest.mark.parametrize("lengths", [(0, 0, 0), (0, 3, 3), (3, 3, 0)])
def test_nothing_pairs(lengths):
    xs, loss = rows(*lengths, dim=6), made()
    value = loss(xs, [torch.arange(n) for n in lengths])
    value.backward()
    assert value.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in (*xs, *loss.parameters()))
    kept = made(missing="neutral")
    more = kept(xs, [torch.arange(n) for n in lengths])
    assert (more.item() > 0) == (max(lengths) > 0)  # two modalities are contrasted, the third is neutral


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("missing is 'complete' or 'neutral'; got 'learned'", lambda xs: GatedSymile(missing="learned")),
        ("neutral is a tensor", lambda xs: gated_symile(xs, 1.0, gate, neutrals[:2])),
        ("width is at least one coordinate; got 0", lambda xs: GatedSymile(width=0)),
        ("call start", lambda xs: GatedSymile()(xs, [torch.arange(4)] * 3)),
        ("of 2 modalities, and rows of one at least", lambda xs: made().score(xs[0], [None, None], 0)),
        ("of 2 modalities, and rows of one at least", lambda xs: made().score(xs[0], xs, 0)),
    ],
)  # fmt: skip
def test_what_does_not_fit(message, call):
    with pytest.raises(ValueError, match=message):
        call(rows(4, 4, 4, dim=6))
