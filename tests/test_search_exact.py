"""Exact search in blocks against a plain loop in float64: ties, blocks, masks, norms, segments."""

from __future__ import annotations

import pytest
import tiny_index
import torch
import torch.nn.functional as F

from align.search import exact
from align.search.exact import find_best, join_best


def plain(query, values, sample, k, norm=None, keep=None):
    """[(score, sample)] of each query, by Python's floats."""
    out = []
    for q in query.double().tolist():
        best: dict[int, float] = {}
        for i, row in enumerate(values.double().tolist()):
            if keep is None or keep[i]:
                value = sum(a * b for a, b in zip(q, row, strict=True)) * (1.0 if norm is None else float(norm[i]))
                best[int(sample[i])] = max(best.get(int(sample[i]), -1e9), float(torch.tensor(value)))
        out.append(sorted(((value, number) for number, value in best.items()), key=lambda x: (-x[0], x[1]))[:k])
    return out


def same(found, expected):
    scores, samples = found
    assert samples.tolist() == [[number for _, number in row] for row in expected]
    for got, row in zip(scores.tolist(), expected, strict=True):
        assert got == pytest.approx([value for value, _ in row], rel=1e-6, abs=1e-7)


def made(n=90, d=12, seed=0):
    """Rows of samples with gaps in their numbers; every fourth sample has three rows, and many rows are equal."""
    generator = torch.Generator().manual_seed(seed)
    sample = torch.cat([torch.full((3 if i % 4 == 0 else 1,), 2 * i + 5) for i in range(n // 2)])
    values = F.normalize(tiny_index.random(len(sample), seed, d), dim=1)
    values[torch.randint(len(sample), (30,), generator=generator)] = values[7].clone()
    norm = 0.5 + torch.rand(len(sample), generator=generator)
    keep = torch.rand(len(sample), generator=generator) < 0.8
    return values, sample, norm, keep


@pytest.mark.parametrize("block", [1, 4, 13, 1000])
@pytest.mark.parametrize("k", [1, 5, 500])
def test_it_is_the_plain_loop(block, k, monkeypatch):
    monkeypatch.setattr(exact, "block", block)
    values, sample, norm, keep = made()
    query = torch.cat([tiny_index.random(3, 5, 12), values[7][None], torch.zeros(1, 12)])
    for some_norm in (None, norm):
        for some_keep in (None, keep, ~keep):  # ~keep is few rows, which are copied together
            found = find_best(query, values, sample, k, norm=some_norm, keep=some_keep)
            expected = plain(query, values, sample, k, some_norm, some_keep)
            same(found, expected)
            alone = find_best(query[2:3], values, sample, k, norm=some_norm, keep=some_keep)
            same(alone, expected[2:3])


@pytest.mark.parametrize("d", [7, 64, 100, 256])
def test_equal_rows_tie_whatever_their_place(d, monkeypatch):
    """More equal rows than k, at both ends of a block, with an odd one between: the first numbers win."""
    monkeypatch.setattr(exact, "block", 301)
    row = F.normalize(tiny_index.random(1, 3, d), dim=1)
    values = row.expand(1000, -1).clone()
    values[500] = -row
    query = torch.cat([row, tiny_index.random(1, 4, d)])
    scores, samples = find_best(query, values, torch.arange(1000), 20)
    assert find_best(query[:1], values, torch.arange(1000), 20)[1][0].tolist() == list(range(20))
    assert samples[0].tolist() == list(range(20))
    assert scores[0].unique().numel() == 1
    worse = float(query[1] @ row[0]) < 0
    assert samples[1].tolist() == ([500, *range(19)] if worse else list(range(20)))


@pytest.mark.parametrize("length", [None, 1e-3, 1e3])
def test_rows_that_float32_cannot_tell_apart_are_in_their_true_order(length):
    """Scores differ in the last bits of float32, and a product in float32 puts some of them in another order."""
    d, n = 256, 4000
    query = F.normalize(tiny_index.random(1, 1, d).double(), dim=1)
    values = (query + 1e-6 * tiny_index.random(n, 2, d)).float()
    norm = None if length is None else torch.full((n,), length)
    exact_scores = ((query @ values.double().T)[0] * (1.0 if norm is None else norm.double())).float()
    order = sorted(range(n), key=lambda i: (-float(exact_scores[i]), i))
    assert (query.float() @ values.T)[0].argsort(descending=True, stable=True)[:50].tolist() != order[:50]
    assert find_best(query, values, torch.arange(n), 50, norm=norm)[1][0].tolist() == order[:50]


def test_low_precision_rows_are_scored_in_float32():
    values, sample, _, _ = made()
    query = tiny_index.random(2, 5, 12)
    with torch.autocast("cpu", torch.bfloat16):
        found = find_best(query, values.half(), sample, 9)
    same(found, plain(query, values.half(), sample, 9))


def test_segments_are_joined_by_sample():
    """Rows of a sample lie in several segments, and its best one counts."""
    values, sample, _, _ = made()
    query = tiny_index.random(4, 5, 12)
    cut = torch.arange(len(sample)) % 3
    pieces = [find_best(query, values[cut == i], sample[cut == i], 8) for i in range(3)]
    same(join_best(pieces, 8), plain(query, values, sample, 8))
    nothing = find_best(query, values[:0], sample[:0], 8)
    assert nothing[0].shape == nothing[1].shape == (4, 0)
    same(join_best([nothing, *pieces, nothing], 8), plain(query, values, sample, 8))


def test_k_is_at_least_1():
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        find_best(torch.ones(1, 2), torch.ones(1, 2), torch.zeros(1, dtype=torch.long), 0)


def test_no_row_passes():
    values, sample, _, keep = made()
    scores, samples = find_best(values[:2], values, sample, 5, keep=torch.zeros_like(keep))
    assert scores.shape == samples.shape == (2, 0)
