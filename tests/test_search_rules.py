"""Every rule of a search against a plain loop in float64: weights, minus signs, holes, several rows a sample, ties."""

from __future__ import annotations

import itertools

import pytest
import tiny_index
import torch

from align.scoring import score
from align.search.memory import MemoryIndex
from align.search.parts import Part, name_parts
from align.search.searcher import Searcher

PARTS = {
    "one": [("text", 1.0)],
    "two": [("text", 1.0), ("audio", 1.0)],
    "weights": [("text", 2.0), ("audio", 0.25)],
    "texts": [("text", 1.0), ("text", -0.5), ("audio", 1.0)],
    "all": [("text", 1.0), ("image", 1.0), ("audio", 1.0), ("points", 0.5)],
    "a zero": [("text", 1.0), ("audio", 0.0)],
}


def asked(terms: str, unit: bool = True):
    index = MemoryIndex()
    table = tiny_index.fill(index, unit=unit)
    return Searcher(index, tiny_index.model(terms, unit)), table


def same(found, expected):
    assert [hit.item.key for hit in found.hits] == [key for key, _ in expected[: len(found.hits)]]
    assert [hit.score for hit in found.hits] == pytest.approx(
        [x for _, x in expected[: len(found.hits)]], rel=1e-6, abs=2e-5
    )
    assert [hit.rank for hit in found.hits] == list(range(1, len(found.hits) + 1))


@pytest.mark.parametrize("unit", [pytest.param(True, marks=pytest.mark.sweep), False], ids=["unit", "with norms"])
@pytest.mark.parametrize("terms", tiny_index.TERMS)
@pytest.mark.parametrize("name", PARTS)
def test_each_rule_is_the_plain_loop(terms, name, unit):
    searcher, table = asked(terms, unit)
    parts, vectors = tiny_index.query(PARTS[name], unit=unit)
    counted = [part for part in parts if part.weight]
    for of, how in itertools.product(("image", "text"), ("cosine", "mip", None)):
        found = searcher.find(parts, vectors, of, 60, how=how)
        assert how in (None, found.how)
        order = tiny_index.by_loop(table, searcher.model.terms, counted, of, found.how, unit)
        assert len(found.hits) == len(order) == found.candidates
        same(found, order)
        same(searcher.find(parts, vectors, of, 7, how=how), order)


@pytest.mark.parametrize("terms", tiny_index.TERMS)
def test_a_part_of_weight_1_a_modality_is_the_score(terms):
    searcher, _ = asked(terms)
    for names in (["text"], ["text", "audio"]):
        parts, vectors = tiny_index.query([(m, 1.0) for m in names])
        rows = searcher.index.rows("image", searcher.index.numbers("image"))
        for how in ("cosine", "mip", "objective") if terms != "none" else ("cosine", "mip"):
            asks = {m: v[None] for m, v in zip(names, vectors, strict=True)}
            try:
                scores = score(asks, rows.values, how, of="image", terms=searcher.model.terms)[0]
            except ValueError as error:
                with pytest.raises(ValueError, match=str(error)[:40]):
                    searcher.find(parts, vectors, "image", how=how)
                continue
            best = {}
            for number, x in zip(rows.sample.tolist(), scores.tolist(), strict=True):
                best[number] = max(best.get(number, -1e9), x)
            found = searcher.find(parts, vectors, "image", 60, how=how)
            assert {hit.sample: hit.score for hit in found.hits} == pytest.approx(best, abs=2e-5)


def test_each_parts_cosine_is_that_of_the_best_row():
    searcher, table = asked("none")
    parts, vectors = tiny_index.query([("text", 1.0), ("text", -2.0), ("audio", 0.5)])
    found = searcher.find(parts, vectors, "image", 60)
    assert name_parts(parts) == ["text", "-text 2", "audio"]
    several = 0
    for hit in found.hits:
        rows = table["image"][hit.item.key]
        several += len(rows) > 1
        row = max(rows, key=lambda row: tiny_index.loop([], parts, row, "image", "cosine"))
        each = [float(torch.dot(v, row)) for v in vectors]
        assert list(hit.cosines.values()) == pytest.approx(each, abs=1e-5)
        assert hit.score == pytest.approx(each[0] - 2 * each[1] + 0.5 * each[2], abs=1e-5)
    assert several > 5


def test_a_minus_within_a_product_subtracts():
    """The product with two texts is the product with the first less that with the second."""
    searcher, _ = asked("symile")
    vectors = [tiny_index.random(1, i)[0] for i in range(3)]
    plus, minus, both = (
        {hit.sample: hit.score for hit in searcher.find(parts, vs, "image", 60).hits}
        for parts, vs in (
            ([Part("text", None), Part("audio", None)], [vectors[0], vectors[2]]),
            ([Part("text", None), Part("audio", None)], [vectors[1], vectors[2]]),
            ([Part("text", None), Part("text", None, -1.0), Part("audio", None)], vectors),
        )
    )
    # a sample of several rows counts by its best one, so the difference holds for samples of one row
    lone = [n for n in both if (searcher.index.rows("image", [n]).n) == 1]
    assert [both[n] for n in lone] == pytest.approx([plus[n] - minus[n] for n in lone], abs=1e-4)


@pytest.mark.parametrize("terms", ["symile", "volume", "area"])
def test_a_lone_minus_is_not_read_by_a_product(terms):
    searcher, table = asked(terms)
    parts, vectors = tiny_index.query([("text", 1.0), ("audio", -1.0)])
    found = searcher.find(parts, vectors, "image", 60)
    assert found.how == "cosine"
    assert any("cannot read -audio" in note for note in found.notes)
    same(found, tiny_index.by_loop(table, [], parts, "image", "cosine"))
    for how in ("mip", "objective"):
        with pytest.raises(
            ValueError, match=r"-audio alone would turn the whole order round; add another part of audio"
        ):
            searcher.find(parts, vectors, "image", how=how)


def test_a_lone_minus_is_read_by_the_pairs():
    searcher, table = asked("all")
    parts, vectors = tiny_index.query([("text", 1.0), ("audio", -1.0)])
    found = searcher.find(parts, vectors, "image", 60)
    assert found.how == "objective"
    pairs = tiny_index.TERMS["pairwise"]
    same(
        found, tiny_index.expected(table, lambda row: tiny_index.loop(pairs, parts, row, "image", "objective"), "image")
    )
    alone = searcher.find(*tiny_index.query([("text", -1.0)]), "image", 60)
    turned = searcher.find(*tiny_index.query([("text", 1.0)]), "image", 60)
    assert alone.hits[0].item.key == turned.hits[-1].item.key


def test_two_minus_signs_do_not_cancel():
    searcher, _ = asked("symile")
    parts, vectors = tiny_index.query([("text", -1.0), ("audio", -1.0)])
    assert searcher.find(parts, vectors, "image").how == "cosine"
    with pytest.raises(ValueError, match="-text, -audio alone"):
        searcher.find(parts, vectors, "image", how="mip")


@pytest.mark.parametrize("terms", ["volume", "volume of two", "area", "all"])
def test_volumes_are_measured_of_the_best(terms):
    """Beyond ``rerank`` the scores are right, and a note says how many were measured."""
    index = MemoryIndex()
    table = tiny_index.fill(index, 400)
    searcher = Searcher(index, tiny_index.model(terms))
    parts, vectors = tiny_index.query([("text", 1.0), ("audio", 1.0)])
    order = dict(tiny_index.by_loop(table, searcher.model.terms, parts, "image", "objective"))
    found = searcher.find(parts, vectors, "image", 10, rerank=60)
    assert any("the best 60 samples of 343" in note for note in found.notes)
    assert [hit.score for hit in found.hits] == pytest.approx([order[hit.item.key] for hit in found.hits], abs=2e-5)
    assert {hit.item.key for hit in found.hits} == {*list(order)[:10]}  # here the true ones are among them
    assert len(searcher.find(parts, vectors, "image", 100, rerank=5).hits) == 100  # as many are measured as are shown
    assert not any("of 343" in note for note in searcher.find(parts, vectors, "image", 10, rerank=343).notes)


def test_a_part_of_the_searched_modality_is_told_as_unread():
    """In a term that modality stands for the candidate, so the objective reads the text alone."""
    searcher, table = asked("pairwise")
    parts, vectors = tiny_index.query([("text", 1.0), ("image", 1.0)])
    found = searcher.find(parts, vectors, "image", 60)
    assert found.how == "objective"
    note = "image does not count: no trained term joins it with image here; how=cosine counts it"
    assert note in found.notes
    alone = searcher.find(parts[:1], vectors[:1], "image", 60)
    assert [hit.item.key for hit in found.hits] == [hit.item.key for hit in alone.hits]
    both = searcher.find(parts, vectors, "image", 60, how="cosine")
    same(both, tiny_index.by_loop(table, [], parts, "image", "cosine"))
    assert note not in both.notes
