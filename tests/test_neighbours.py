"""Neighbours that vote: against DINOv2's formula by a plain loop, and with ties that never help."""

from __future__ import annotations

import math

import pytest
import torch

from align.metrics import neighbours
from align.metrics.neighbours import vote_right


def by_loop(query, target, rows, label, classes, k, temperature=0.07):
    """DINOv2: softmax of the cosines of the k nearest over the temperature, summed by class."""
    right = []
    for x, y in zip(query, target.tolist(), strict=True):
        cosines = [float(x @ r) / (float(x.norm()) * float(r.norm())) for r in rows]
        near = sorted(range(len(rows)), key=lambda i: -cosines[i])[:k]
        total = sum(math.exp(cosines[i] / temperature) for i in near)
        votes = [0.0] * classes
        for i in near:
            votes[int(label[i])] += math.exp(cosines[i] / temperature) / total
        right.append(votes[y] > max(v for c, v in enumerate(votes) if c != y))
    return right


def test_votes_are_dinov2s(monkeypatch):
    monkeypatch.setattr(neighbours, "QUERIES", 7)
    monkeypatch.setattr(neighbours, "ROWS", 11)
    draw = torch.Generator().manual_seed(0)
    label, target = torch.arange(40) % 3, torch.arange(30) % 3
    means = torch.randn(3, 6, generator=draw)
    rows = means[label] + torch.randn(40, 6, generator=draw)
    query = means[target] + torch.randn(30, 6, generator=draw)
    found = vote_right(query, target, rows, label, 3, (1, 5, 20, 40, 99))
    for k in (1, 5, 20, 40):
        assert found[k].tolist() == by_loop(query.double(), target, rows.double(), label, 3, k), k
    assert 0.3 < float(found[5].float().mean()) < 1
    assert torch.equal(found[99], found[40])


def test_equal_cosines_at_the_last_place_are_the_worst():
    """Of three equal neighbours one may vote: the wrong one does. Where all three may, the two right ones win."""
    query, rows = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    label = torch.tensor([0, 0, 1, 1])
    found = vote_right(query, torch.tensor([0]), rows, label, 2, (1, 2, 3))
    assert [bool(found[k]) for k in (1, 2, 3)] == [False, False, True]
    for order in ([0, 0, 1, 1], [0, 1, 0, 1], [1, 0, 0, 1]):  # the largest k has a tie too, whichever row comes first
        assert not vote_right(query, torch.tensor([0]), rows, torch.tensor(order), 2, (2,))[2].any()
    alone = vote_right(query, torch.tensor([0]), rows[:2], label[:2], 2, (1,))
    assert not alone[1].any()  # all cosines are equal


def test_a_nearer_wrong_row_outvotes():
    query, rows = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.01], [1.0, 0.7], [1.0, 0.7], [-1.0, 0.0]])
    found = vote_right(query, torch.tensor([1]), rows, torch.tensor([0, 1, 1, 0]), 2, (3,))
    warm = vote_right(query, torch.tensor([1]), rows, torch.tensor([0, 1, 1, 0]), 2, (3,), temperature=100.0)
    assert (bool(found[3]), bool(warm[3])) == (False, True)


def test_a_constant_space_has_no_neighbours():
    label = torch.tensor([0] * 30 + [1] * 10)
    found = vote_right(torch.ones(5, 4), torch.zeros(5).long(), torch.ones(40, 4), label, 2, (1, 20, 40))
    assert not any(bool(one.any()) for one in found.values())


def test_no_rows_and_no_k():
    with pytest.raises(ValueError, match="got none"):
        vote_right(torch.ones(1, 2), torch.zeros(1).long(), torch.ones(0, 2), torch.zeros(0).long(), 2)
    with pytest.raises(ValueError, match="k is at least 1"):
        vote_right(torch.ones(1, 2), torch.zeros(1).long(), torch.ones(1, 2), torch.zeros(1).long(), 2, (0,))
