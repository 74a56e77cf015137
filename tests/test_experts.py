"""Experts against a plain loop, and the two terms of their gate."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from align.heads import MLP, Experts, Linear
from align.losses import Balance, Route, balance, route
from align.objective import Objective, Term
from align.values import Embeddings, Features, Rows


def made(top: int = 0) -> tuple[Experts, torch.Tensor]:
    torch.manual_seed(3)
    head = Experts(7, 5, 3, [Linear, MLP, Linear], top).double()
    with torch.no_grad():
        head.gate.weight.normal_()
        head.gate.bias.normal_()
    return head, torch.randn(6, 7, dtype=torch.float64)


@pytest.mark.parametrize("top", [0, 1, 2, 3])
@torch.no_grad()
def test_it_is_the_plain_loop_over_rows_and_experts(top):
    head, x = made(top)
    pooled, tokens = head(Features(x, x[:, None]), tokens=True)
    for i, row in enumerate(x):
        soft = (head.gate.weight @ row + head.gate.bias).softmax(0)
        order = sorted(range(3), key=lambda k: -float(soft[k]))[: top or 3]
        expected = torch.zeros(5, dtype=torch.float64)
        for k in order:
            one = head.inside[k](Features(row[None]))[0].detach()
            expected += soft[k] / sum(soft[j] for j in order) * one / one.norm()
        torch.testing.assert_close(pooled[i], expected)
        torch.testing.assert_close(tokens[i, 0], torch.cat([soft, torch.zeros(2)]))


def test_the_gate_learns_where_one_expert_counts():
    """The gradient to the gate is that of the soft mixture."""
    head, x = made(1)
    pooled, weights = head(Features(x)), head.find_weights(x)[0]
    torch.manual_seed(5)
    at = torch.randn_like(pooled)
    (got,) = torch.autograd.grad((pooled * at).sum(), head.gate.bias, retain_graph=True)
    unit = torch.stack([F.normalize(one(Features(x)), dim=1) for one in head.inside], 1).detach()
    (expected,) = torch.autograd.grad(((weights[..., None] * unit).sum(1) * at).sum(), head.gate.bias)
    torch.testing.assert_close(got, expected)
    assert got.abs().max() > 1e-3


gates = torch.tensor([[3.0, 1, 0], [1, 1, 2], [0, 0, 0], [1, 3, 4], [5, 1, 1], [2, 2, 6]], dtype=torch.float64)
ids, counts = torch.tensor([0, 1, 2, 3, -1, 5]), [1.0, 2.0, 5.0, 0.5, 1.0, 3.0]


def test_balance_is_the_plain_loop():
    rows = [i for i in range(6) if i not in (2, 4)]
    total, shares, means = sum(counts[i] for i in rows), [0.0] * 3, [0.0] * 3
    for i in rows:
        w = [float(x) / float(gates[i].sum()) for x in gates[i]]
        shares[w.index(max(w))] += counts[i] / total
        for k in range(3):
            means[k] += counts[i] * w[k] / total
    got = balance(gates, sample=ids, weight=torch.tensor(counts))
    assert float(got) == pytest.approx(3 * sum(f * p for f, p in zip(shares, means, strict=True)), abs=1e-12)
    assert float(balance(torch.eye(3))) == pytest.approx(1)
    assert float(balance(torch.eye(3)[[1, 1, 1]])) == pytest.approx(3)
    assert float(balance(gates[:0])) == 0


def test_route_is_the_plain_loop():
    labels = [[0], [1, 2], [0], [], [1], [0]]
    total = weights = 0.0
    for i, of in enumerate(labels):
        if i == 4 or not of:
            continue
        share = sum(float(gates[i, k]) for k in of) / (float(gates[i].sum()) or 1)
        total, weights = total - counts[i] * math.log(max(share, 1e-6)), weights + counts[i]
    places = torch.tensor([some + [-1] * (2 - len(some)) for some in labels])
    got = route(gates, places, sample=ids, weight=torch.tensor(counts))
    assert float(got) == pytest.approx(total / weights, abs=1e-12)


def test_a_gate_learns_the_domain_of_a_row_and_balance_spreads_rows():
    torch.manual_seed(0)
    x, domain = torch.randn(32, 7), torch.arange(32) % 2
    x[:, 0] = domain * 4.0 - 2
    for loss, weight in ((Route(2, "domain", ["a", "b"]), 1.0), (Balance(2), 1.0)):
        head = Experts(7, 5, 2, top=1)
        with torch.no_grad():
            head.gate.bias[0] = 2.0  # nearly all rows begin with the first expert
        objective = Objective({"gate": Term(loss, ["image"], weight)}, dim=5, batch=32, modalities=["image"])
        optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
        for _ in range(40):
            pooled, tokens = head(Features(x, x[:, None]), tokens=True)
            rows = Rows(pooled, torch.arange(32), F.normalize(tokens, dim=-1), torch.ones(32, 1, dtype=torch.bool))
            labels = [{"domain": "ab"[d]} for d in domain.tolist()]
            value, _ = objective(Embeddings({"image": rows}, [""] * 32, torch.arange(32), labels))
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        chosen = head.find_weights(x)[0].argmax(1)
        if isinstance(loss, Route):
            assert chosen.tolist() == domain.tolist()
        else:
            assert 8 <= int(chosen.sum()) <= 24
        assert objective.infos() == []


def test_what_does_not_fit_is_one_line():
    x, one = torch.randn(3, 5), torch.zeros(3, 1, dtype=torch.int64)
    tokens = [(x[:, None], torch.ones(3, 1, dtype=torch.bool))]
    for wrong, words in (
        (lambda: Experts(7, 5, 6), "so they are from 1 to dim, 5; got 6"),
        (lambda: Experts(7, 5, 3, [Linear] * 2), "3 experts take one callable, or a head for each; got 2 heads"),
        (lambda: Experts(7, 5, 2, [Linear(7, 5)]), "2 experts take one callable"),
        (lambda: Experts(7, 5, 2, top=3), "top is a number of the 2 experts, 0 for all; got 3"),
        (lambda: Balance(0), "at least 1; got 0"),
        (lambda: Balance(6)([x], [one[:, 0]], tokens=tokens), "a token of 5 numbers cannot hold the weights of 6"),
        (lambda: Route(2, "d", ["a", "b", "c"]), "3 classes of 'd' need as many experts; got 2"),
        (lambda: Route(2)([x], [one[:, 0]], tokens=tokens), "Route reads labels"),
        (lambda: route(x.abs(), one + 5), "there are 5 experts, one for each class; got the class 5"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            wrong()
        assert "\n" not in str(error.value)
