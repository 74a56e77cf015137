"""Metrix against a cross-entropy and a sigmoid with soft targets, by plain loops."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from align.losses import Bank, CAPro, InfoNCE, LateInteraction, MemoryQueue, Metrix, SigLIP, Symile
from align.losses.kernels.rule import Rule
from align.losses.loss import Given
from align.losses.wrappers.metrix import draw_order, mix_rows, reorder
from align.losses.wrappers.mix_geodesic import shares


def unit(n: int, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, 4, dtype=torch.float64, generator=draw), dim=1)


owners = [[0, 1, 2, 3, -1, 5], [0, 1, 1, 2, 4, 3, -1]]
groups = [[7, -1, -1, -1, -1, 7], [7, -1, -1, -1, 3, -1, -1]]


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def replay(sides: list[int]) -> list[tuple[float, list[int]]]:
    """The share and the order of each mixed side, drawn as the call draws them."""
    draw, out = draws(), []
    for side in sides:
        share = float(shares(0.7, 1, draw)[0])
        out.append((share, draw_order(torch.tensor(owners[side]), draw).tolist()))
    return out


def soft_targets(side: int, share: float, order: list[int], i: int, j: int) -> list[tuple[float, bool, bool]]:
    """(share, positive, left out) of a pair, for each of the two samples of its mixed row."""
    out = []
    for weight, place in ((share, lambda k: k), (1 - share, lambda k: order[k])):
        a, b = (place(i), j) if side == 0 else (i, place(j))
        positive = owners[0][a] == owners[1][b] and owners[0][a] >= 0
        alike = groups[0][a] == groups[1][b] and groups[0][a] >= 0
        out.append((weight, positive, alike and not positive))
    return out


def loop(a, b, scale, side: int, share: float, order: list[int], bias: float | None) -> float:
    logits = (scale * a @ b.T).tolist()
    total = 0.0
    for which in (0, 1):
        kinds = {(i, j): soft_targets(side, share, order, i, j)[which] for i in range(6) for j in range(7)}
        weight = kinds[0, 0][0]
        if bias is not None:
            terms = [
                math.log1p(math.exp(-(logits[i][j] + bias) * (1 if positive else -1)))
                for (i, j), (_, positive, out) in kinds.items() if not out
            ]  # fmt: skip
            total += weight * sum(terms) / 6.5
            continue
        ways = []
        for way, n in ((0, 6), (1, 7)):
            costs = []
            for k in range(n):
                row = {x: logits[x[0]][x[1]] for x, (_, _, out) in kinds.items() if x[way] == k and not out}
                right = [v for x, v in row.items() if kinds[x][1]]
                if right:
                    costs.append(math.log(sum(map(math.exp, row.values()))) - sum(right) / len(right))
            ways.append(sum(costs) / len(costs))
        total += weight * sum(ways) / 2
    return total


@pytest.mark.parametrize("sides", [None, ["text"]])
@pytest.mark.parametrize("inner", [InfoNCE, SigLIP])
def test_it_is_the_loop_with_soft_targets(inner, sides):
    a, b = unit(6, 1), unit(7, 2)
    ids, kinds = ([torch.tensor(o) for o in some] for some in (owners, groups))
    loss = Metrix(inner(start_scale=3.0), alpha=0.7, weight=0.5, sides=sides).double()
    loss.start(4, 2, 6)
    loss.between(["image", "text"])
    got = loss([a, b], ids, groups=kinds, generator=draws())
    plain = loss.loss([a, b], ids, groups=kinds)
    scale, bias = float(loss.scale.detach()), None if loss.bias is None else float(loss.bias.detach())
    values, mixed = [], [0, 1] if sides is None else [1]
    for side, (share, order) in zip(mixed, replay(mixed), strict=True):
        rows = [a.clone(), b.clone()]
        for k, other in enumerate(order):
            x = share * (a, b)[side][k] + (1 - share) * (a, b)[side][other]
            rows[side][k] = x / x.norm()
        assert order[owners[side].index(-1)] == owners[side].index(-1)
        assert order != [*range(len(order))]
        values.append(loop(*rows, scale, side, share, order, bias))
    expected = float(plain.detach()) + 0.5 * sum(values) / len(values)
    assert float(got.detach()) == pytest.approx(expected, abs=1e-9)
    assert float(loss.eval()([a, b], ids, groups=kinds).detach()) == float(plain.detach())


def test_rows_that_are_no_unit_vectors_are_mixed_as_they_are():
    x, order, share = 3 * unit(4, 1), torch.tensor([1, 0, 2, 3]), torch.tensor([0.25]).double()
    got = mix_rows(x, order, share)
    torch.testing.assert_close(got, torch.stack([x[0] / 4 + x[1] * 3 / 4, x[1] / 4 + x[0] * 3 / 4, x[2], x[3]]))
    assert torch.equal(mix_rows(unit(4, 1), order, share)[2:], unit(4, 1)[2:])


def test_rules_move_with_the_samples():
    ids = torch.tensor([5, 6, 7])
    rule = Rule(alike=(ids[:, None], ids[:, None]), against=(ids, ids))
    order = torch.tensor([2, 0, 1])
    given = Given([unit(3, 1), unit(3, 2)], [ids, ids], groups=[ids, ids], weights=[ids, ids], rule=rule)
    moved = reorder(given, 1, order)
    assert moved.rule is not None
    for each in (moved.samples, moved.groups, moved.rule.against, moved.rule.alike):
        assert each is not None
        assert each[0].flatten().tolist() == [5, 6, 7]
        assert each[1].flatten().tolist() == [7, 5, 6]
    assert moved.weights is given.weights


def test_what_does_not_fit_is_one_line():
    def misses() -> None:
        Metrix(InfoNCE(), sides=["audio"]).between(["image", "text"])

    for wrong, words in (
        (lambda: Metrix(Symile()), "Symile is of kind 'symile'"),
        (lambda: Metrix(LateInteraction()), "LateInteraction is of kind 'tokens'"),
        (lambda: Metrix(CAPro()), "CAPro reads labels"),
        (lambda: Metrix(MemoryQueue(InfoNCE(), 3)), r"goes inside MemoryQueue, not around it"),
        (lambda: Metrix(Bank(InfoNCE(), "text")), r"goes inside Bank, not around it"),
        (lambda: Metrix(InfoNCE(), alpha=0), "alpha is a positive number; got 0"),
        (lambda: Metrix(InfoNCE(), weight=math.inf), "weight is a positive number"),
        (lambda: Metrix(InfoNCE(), sides=[]), "sides names one modality or both"),
        (misses, "sides names audio; a call is between image, text"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            wrong()
        assert "\n" not in str(error.value)
