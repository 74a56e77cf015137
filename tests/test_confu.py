"""confu against a loop over fused tuples and infonce's loop, its heads, and what scoring reads of it."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from test_infonce import equal, rows
from test_infonce import loop as infonce_loop
from test_volumes import groups, ids, weights

from align.losses import ConFu, confu
from align.objective import Objective, Term
from align.values import TermInfo


def fuse(xs, places):
    """A fusion that tells the order of its modalities, and which they are."""
    return F.normalize(sum((p + 1 + i) * x.roll(p, 1) for i, (x, p) in enumerate(zip(xs, places, strict=True))), dim=1)


def loop(xs, fuse, scale, share, size, samples, groups=None, weights=None):
    """Every fused tuple of one sample laid out by hand, and infonce's own loop over it."""
    M, fused, pairs = len(xs), [], []
    for places in itertools.combinations(range(M), size):
        made, sample, group, weight = [], [], [], []
        for t in itertools.product(*(range(len(xs[m])) for m in places)):
            of = {int(samples[m][i]) for m, i in zip(places, t, strict=True)}
            if len(of) > 1 or of == {-1}:
                continue
            made.append(fuse([xs[m][i][None] for m, i in zip(places, t, strict=True)], places)[0])
            sample.append(of.pop())
            of_group = {int(groups[m][i]) for m, i in zip(places, t, strict=True)} if groups else {-1}
            group.append(of_group.pop() if len(of_group) == 1 else -1)
            weight.append(sum(float(weights[m][i]) for m, i in zip(places, t, strict=True)) / size if weights else 1.0)
        for k in set(range(M)) - {*places}:
            more = {"group_a": group, "group_b": groups[k]} if groups else {}
            more |= {"weight_a": weight, "weight_b": weights[k]} if weights else {}
            fused.append(infonce_loop(made, xs[k], scale, sample, samples[k], **more))
    for i, j in itertools.combinations(range(M), 2):
        more = {"group_a": groups[i], "group_b": groups[j]} if groups else {}
        more |= {"weight_a": weights[i], "weight_b": weights[j]} if weights else {}
        pairs.append(infonce_loop(xs[i], xs[j], scale, samples[i], samples[j], **more))
    return share * sum(fused) / len(fused) + (1 - share) * sum(pairs) / len(pairs)


@pytest.mark.parametrize(("M", "size"), [(3, 2), (4, 2), (4, 3)])
@pytest.mark.parametrize("extra", [(), ("groups", "weights")])
def test_equals_the_loop(M, size, extra):
    xs = rows(*(len(x) for x in ids[:M]), dim=6)
    scale = torch.tensor([6.0], dtype=torch.float64, requires_grad=True)
    more = {name: {"groups": groups, "weights": weights}[name][:M] for name in extra}
    got = confu(xs, fuse, scale, share=0.3, size=size, samples=ids[:M], **more)
    equal(got, loop(xs, fuse, scale, 0.3, size, ids[:M], **more), [*xs, scale])


def test_a_tuple_of_two_groups_has_none():
    """Graded pairs may give the rows of a sample different groups."""
    xs = rows(3, 3, 3)
    owners = [torch.arange(3)] * 3
    mixed = [torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), torch.tensor([0, 0, 0])]
    equal(confu(xs, fuse, 5.0, groups=mixed), loop(xs, fuse, 5.0, 0.5, 2, owners, mixed), xs)


def made(dim=6, M=3, **options):
    torch.manual_seed(0)
    loss = ConFu(**options).double()
    loss.start(dim, M, 8)
    return loss


def test_the_module_is_the_function_and_its_heads_are_mlps():
    xs, loss = rows(*(len(x) for x in ids[:3]), dim=6), made(share=0.2, hidden=7)
    assert {name: tuple(p.shape) for name, p in loss.named_parameters()} == {
        "log_scale": (1,), "inner": (3, 7, 12), "inner_bias": (3, 7), "outer": (3, 6, 7), "outer_bias": (3, 6),
    }  # fmt: skip
    with torch.no_grad():
        loss.inner_bias.normal_()
        loss.outer_bias.normal_()
    assert loss.places == [(0, 1), (0, 2), (1, 2)]

    def head(rows, places):
        p = loss.places.index(tuple(places))
        hidden = F.gelu(torch.cat([*rows], 1) @ loss.inner[p].T + loss.inner_bias[p])
        out = hidden @ loss.outer[p].T + loss.outer_bias[p]
        return out / out.square().sum(1, keepdim=True).sqrt()

    got = loss(xs, ids[:3], groups=groups[:3], weights=weights[:3])
    expected = loop(xs, head, loss.scale, 0.2, 2, ids[:3], groups[:3], weights[:3])
    equal(got, expected, [*xs, *loss.parameters()])
    torch.testing.assert_close(loss.fuse([xs[0], xs[1]], (0, 1)), head([xs[0], xs[1]], (0, 1)))
    assert loss.fuse([xs[0].bfloat16(), xs[1].float()], [0, 1]).dtype == torch.float64


def test_gradcheck():
    xs, loss = rows(2, 3, 2, dim=3), made(dim=3, hidden=4)
    owners = [torch.tensor([0, 1]), torch.tensor([1, 0, 0]), torch.tensor([0, -1])]
    assert torch.autograd.gradcheck(lambda *x: loss(x, owners), [x.detach().requires_grad_() for x in xs])


def test_a_hole_leaves_the_other_calls():
    """Samples that lack a modality still train its pairs; nothing at all is a zero, and no gradient is None."""
    xs, loss = rows(3, 3, 0, dim=6), made()
    loss(xs, [torch.arange(3), torch.arange(3), torch.arange(0)]).backward()
    assert xs[0].grad is not None
    assert float(xs[0].grad.abs().max()) > 0
    loss = made()
    value = loss([x[:0] for x in xs], [torch.arange(0)] * 3)
    value.backward()
    assert value.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in loss.parameters())


def test_the_order_of_rows_does_not_matter():
    xs, loss = [x.detach() for x in rows(*(len(x) for x in ids[:3]), dim=6)], made()
    draws = [torch.randperm(len(x), generator=torch.Generator().manual_seed(m)) for m, x in enumerate(xs)]
    moved = loss([x[d] for x, d in zip(xs, draws, strict=True)], [s[d] for s, d in zip(ids[:3], draws, strict=True)])
    torch.testing.assert_close(moved, loss(xs, ids[:3]), rtol=1e-12, atol=0)


def test_scoring_reads_the_pairs():
    terms = {"fused": Term(ConFu(start_scale=5.0), ["a", "c", "b"])}
    found = Objective(terms, dim=4, batch=4, modalities=["a", "b", "c"]).infos()
    pairs = [("a", "c"), ("a", "b"), ("c", "b")]
    assert found == [TermInfo(pair, "pairwise", pytest.approx(5.0), 0.0) for pair in pairs]


def test_it_finds_an_exclusive_or():
    """Two codes of two bits and their exclusive or: no pair tells anything, the fused query everything."""
    torch.manual_seed(0)
    one, two = torch.tensor([*itertools.product(range(4), range(4))]).T
    codes = [one, two, one ^ two]
    towers = [torch.nn.Embedding(4, 8) for _ in codes]
    loss = ConFu(share=0.9, hidden=32)
    loss.start(8, 3, 16)
    optimiser = torch.optim.Adam([*loss.parameters(), *(tower.weight for tower in towers)], lr=0.02)
    for _ in range(80):
        xs = [F.normalize(tower(code), dim=1) for tower, code in zip(towers, codes, strict=True)]
        optimiser.zero_grad()
        loss(xs, [torch.arange(16)] * 3).backward()
        optimiser.step()
        loss.clamp_()
    found, by_pair = ((x @ xs[2].T).argmax(1) for x in (loss.fuse([xs[0], xs[1]], (0, 1)), xs[0]))
    assert (codes[2][found] == codes[2]).all()
    assert (codes[2][by_pair] == codes[2]).float().mean() == 0.25


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("it takes three at least; got 2", lambda xs: confu(xs[:2], fuse, 1.0)),
        ("fused against another, 2 to 2; got 3", lambda xs: confu(xs, fuse, 1.0, size=3)),
        ("size is how many modalities are fused, two at least; got 1", lambda xs: ConFu(size=1)),
        ("share is the part of the fused rows in the loss, 0 to 1; got 2", lambda xs: confu(xs, fuse, 1.0, share=2)),
        ("so that pairs are trained for scoring too; got 1", lambda xs: ConFu(share=1)),
        ("hidden is at least one unit; got 0", lambda xs: ConFu(hidden=0)),
        (r"no head for the places \(0, 1\); it has none yet: call start", lambda xs: ConFu().fuse(xs[:2], (0, 1))),
        (r"places \(1, 0\); it has \(0, 1\), \(0, 2\), \(1, 2\)", lambda xs: made(5).fuse(xs[:2], (1, 0))),
    ],
)
def test_what_does_not_fit(message, call):
    with pytest.raises(ValueError, match=message):
        call(rows(4, 4, 4))
