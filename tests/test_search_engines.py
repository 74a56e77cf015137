"""Inverted and Hamming search against the dense product and plain loops, and a match explained by its dimensions."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import tiny_index
import torch
import torch.nn.functional as F

from align.search import Engined, Hamming, Inverted, Searcher, explain
from align.search.engine import Engined as Same
from align.search.exact import find_best
from align.search.explain import explain_hits
from align.search.hamming import _ONES, count_ones
from align.search.item import Item
from align.search.memory import MemoryIndex
from align.search.parts import Part
from align.search.where import parse

D = 12


def sparse(n, seed, share=0.25, d=D):
    draw = torch.Generator().manual_seed(seed)
    rows = torch.rand(n, d, generator=draw) * (torch.rand(n, d, generator=draw) < share)
    rows[:, 0] += (rows == 0).all(1) * 1.0
    return rows


def owners(n, seed):
    """Ascending numbers of samples, some with several rows."""
    return torch.randint(0, 2 * n // 3 + 1, (n,), generator=torch.Generator().manual_seed(seed)).sort().values * 3 + 1


@pytest.mark.parametrize("k", [1, 3, 20, 500])
@pytest.mark.parametrize("several", [False, True], ids=["a row each", "several rows"])
def test_the_inverted_index_is_the_dense_product(several, k):
    rows = F.normalize(sparse(120, 1), dim=1)
    rows[50:60], rows[90:95] = rows[7], rows[3]  # ties
    sample = owners(120, 2) if several else torch.arange(120) * 2
    queries = sparse(9, 5)
    queries[0], queries[1] = 0, rows[7]  # like nothing, and like its twins
    queries[2] = torch.randn(D, generator=torch.Generator().manual_seed(8))  # dense, of both signs
    queries[3] = -queries[3]
    queries[4] = F.one_hot(torch.tensor(5), D)  # most rows have no product with it
    for wide in (queries, queries.double() * 17.3):
        for keep in (None, torch.arange(120) % 3 > 0):
            expected = find_best(wide, rows, sample, k, keep=keep)
            got = Inverted(rows, sample).search(wide, k, keep)
            assert torch.equal(got[1], expected[1])
            assert torch.equal(got[0], expected[0])


def test_the_inverted_index_reads_the_postings_alone():
    rows = F.normalize(sparse(300, 3, 0.1), dim=1)
    engine = Inverted(rows, torch.arange(300))
    assert engine.entries == int((rows != 0).sum())
    assert engine.bytes < 20 * engine.entries + 8 * (D + 300 + 4)
    read = []
    engine._fill = lambda few, fill=engine._fill: read.append(len(few)) or fill(few)
    engine.search(F.one_hot(torch.tensor([4]), D).float(), 5)
    assert read[0] <= 30
    engine.search(F.one_hot(torch.tensor([4]), D).float(), 60)
    assert read[1] <= 120  # the best and the first without a product, not the 300


@pytest.mark.parametrize("d", [3, 64, 70])
@pytest.mark.parametrize("k", [1, 7, 200])
def test_hamming_search_is_a_loop_over_bits(d, k):
    draw = torch.Generator().manual_seed(d)
    rows = torch.randn(25, d, generator=draw).sign() / d**0.5
    sample, queries = owners(25, 4), torch.randn(2, d, generator=draw).sign() / d**0.5
    queries[1] = rows[11]
    for keep in (None, torch.arange(25) % 4 > 0):
        scores, found = Hamming(rows, sample).search(queries, k, keep)
        for q, query in enumerate(queries):
            best = {}
            for row, number, kept in zip(rows, sample.tolist(), [True] * 25 if keep is None else keep, strict=True):
                if kept:
                    apart = sum(int((x >= 0) != (y >= 0)) for x, y in zip(row, query, strict=True))
                    best[number] = min(best.get(number, d), apart)
            order = sorted(best, key=lambda number: (best[number], number))[:k]
            assert found[q].tolist() == order
            expected = [(d - 2 * best[number]) / d for number in order]
            assert scores[q].tolist() == pytest.approx(expected, abs=1e-6)
        dense = (queries @ rows.T).double()
        assert float(dense[:, rows.new_ones(25).bool() if keep is None else keep].max()) == pytest.approx(
            float(scores.max())
        )


def test_ones_are_counted_without_numpys_own(monkeypatch):
    import numpy as np

    words = np.random.default_rng(0).integers(0, 2**63, (5, 3)).astype(np.uint64)
    expected = [sum(bin(int(word)).count("1") for word in row) for row in words]
    assert count_ones(words).tolist() == expected
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert count_ones(words).tolist() == expected
    assert int(_ONES.sum()) == 1024


def test_zero_is_a_plus_as_in_the_head():
    engine = Hamming(torch.tensor([[-1.0, -1.0], [0.0, -1.0]]), torch.tensor([4, 9]))
    assert engine.search(torch.tensor([[1.0, -0.5]]), 2)[1].tolist() == [[9, 4]]


def filled(change=lambda rows: rows):
    index = MemoryIndex()
    items = [Item(f"k{i}", {"shard": "/s.tar", "key": f"k{i}"}, [f"word {i}"], i % 3) for i in range(40)]
    index.add("image", change(sparse(40, 1)), torch.arange(40), items)
    return index


@pytest.mark.parametrize("make", [Inverted, Hamming])
def test_an_engine_stands_in_front_of_an_index(make):
    """It keeps deletions, additions and filters, and the index behind answers where lengths or hubs count."""
    signs = make is Hamming
    index = filled(lambda rows: torch.where(rows > 0, 1.0, -1.0) if signs else rows)
    fast = Engined(index, make)
    assert Same is Engined
    for turn in range(3):
        query = torch.where(sparse(3, 30 + turn) > 0, 1.0, -1.0) if signs else sparse(3, 30 + turn)
        for where in (None, parse({"label": {"in": [0, 2]}})):
            expected, got = index.search(query, "image", 7, where), fast.search(query, "image", 7, where)
            assert torch.equal(got[1], expected[1])
            torch.testing.assert_close(got[0], expected[0], rtol=1e-6, atol=1e-6)
        scaled = fast.search(query, "image", 5, scaled=True), index.search(query, "image", 5, scaled=True)
        assert torch.equal(scaled[0][0], scaled[1][0])
        if turn == 0:
            best = fast.items(got[1][0, :1].tolist())[0].key
            assert fast.delete([best]) == 1
        else:
            more = [Item(f"n{turn}", {"shard": "/n.tar", "key": f"n{turn}"}, [], 0)]
            fast.add("image", query[:1], torch.tensor([0]), more)
            assert fast.search(query[:1], "image", 1)[1].item() == int(index.numbers()[-1])
    assert fast.modalities == index.modalities
    assert fast.count("image") == index.count("image")
    for bad, message in (
        (("sound", 3), "the index has no 'sound'; it has image"),
        (("image", 0), "k must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            fast.search(sparse(1, 2), *bad)
    with pytest.raises(ValueError, match=r"a query of this index is \(q, 12\); got \(1, 5\)"):
        fast.search(torch.zeros(1, 5), "image", 1)


def test_a_searcher_answers_alike_over_an_engine():
    index, model = MemoryIndex(), tiny_index.model("pairwise")
    tiny_index.fill(index)
    parts, vectors = tiny_index.query([("text", 1.0), ("audio", 0.5)], unit=True)
    dense, fast = (
        Searcher(each, model).find(parts, vectors, "image", 30) for each in (index, Engined(index, Inverted))
    )
    assert [(hit.sample, hit.score) for hit in fast.hits] == [(hit.sample, hit.score) for hit in dense.hits]
    assert [hit.cosines for hit in fast.hits] == [hit.cosines for hit in dense.hits]


def test_a_match_is_the_sum_of_its_dimensions():
    query, row = sparse(2, 9, 0.6).double()
    query[::2] *= -1
    names = [f"word {d}" for d in range(D)]
    shares = explain(query, row, names, top=D)
    assert math.isclose(sum(share.value for share in shares), float(query @ row), rel_tol=1e-12)
    products = {names[d]: float(query[d] * row[d]) for d in range(D) if query[d] * row[d]}
    assert dict(shares) == products
    assert [share.value for share in shares] == sorted(products.values(), key=lambda x: -abs(x))
    assert explain(query, row, top=2)[0].name == shares[0].name.replace("word", "dimension")
    assert len(explain(query, row, top=2)) == 2
    for bad in ((query, row[:3], None, 1), (query, row, names[:4], 1), (query, row, None, 0)):
        with pytest.raises(ValueError, match=r"one length, and as many names|top must be at least 1"):
            explain(*bad)


@pytest.mark.parametrize("backend", ["dense", "inverted", "hamming"])
def test_a_backend_keeps_the_searchers_dims_and_space(backend):
    from align.commands.search_groups import Backing

    index = MemoryIndex()
    tiny_index.fill(index)
    searcher = Searcher(index, tiny_index.model("pairwise"), dims=4)
    searcher.subspace = given = object()
    made = Backing(backend).engine(searcher)
    assert (made.dims, made.subspace) == (4, given)
    assert (made.index is index) == (backend == "dense")
    assert searcher.index is index


@pytest.mark.parametrize("how", [None, "cosine"])
def test_hits_are_explained_by_the_rule_that_scored_them(how):
    index, base = MemoryIndex(), tiny_index.model("pairwise")
    tiny_index.fill(index)
    names = list("abcdefgh")
    towers = {m: SimpleNamespace(head=SimpleNamespace()) for m in tiny_index.NAMES}
    towers["text"].head.names = names
    model = SimpleNamespace(**vars(base), towers=towers)
    searcher = Searcher(index, model)
    parts = [Part("text", tiny_index.random(1, 5)[0]), Part("audio", tiny_index.random(1, 6)[0], 0.5)]
    found = searcher.search(parts, "image", 6, how=how)
    because = explain_hits(searcher, parts, "image", [hit.sample for hit in found.hits], how, top=8)
    constant = -2.0 if how is None else 0.0
    for hit, shares in zip(found.hits, because, strict=True):
        assert sum(share.value for share in shares) + constant == pytest.approx(hit.score, abs=1e-5)
        assert {share.name for share in shares} <= set(names)
    model.terms = tiny_index.TERMS["volume"]
    with pytest.raises(ValueError, match="no sum over dimensions; explain a search with --how cosine"):
        explain_hits(searcher, parts, "image", [1], None, top=3)
