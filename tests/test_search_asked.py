"""Words, near duplicates, likeness and thresholds against plain loops; bad queries are one line."""

from __future__ import annotations

import itertools

import pytest
import tiny_index
import torch
import torch.nn.functional as F

from align.evaluation.hits import by_group, by_label, by_sample
from align.search.hybrid import Ranking, fuse
from align.search.item import Item
from align.search.local import LocalIndex
from align.search.memory import MemoryIndex
from align.search.near import fold_near
from align.search.parts import Part
from align.search.searcher import Searcher
from align.search.threshold import calibrate, choose_threshold, find_calibrated, name_threshold
from align.values import Embeddings, Rows


@pytest.fixture(params=["memory", "disk"])
def asked(request, tmp_path):
    """(searcher, table) over an index in memory and one on disk."""
    index = MemoryIndex() if request.param == "memory" else LocalIndex.create(tmp_path / "i")
    table = tiny_index.fill(index)
    yield Searcher(index, tiny_index.model("pairwise")), table
    if isinstance(index, LocalIndex):
        index.close()


# words


def test_ranks_are_fused_as_the_paper_says():
    first = Ranking(torch.tensor([9.0, 8.0, 7.0]), torch.tensor([4, 2, 9]))
    second = Ranking(torch.tensor([1.0, 0.5]), torch.tensor([9, 7]), {9: 1, 7: 2})
    expected = {4: 1 / 61, 2: 1 / 62, 9: 1 / 63 + 1 / 61, 7: 1 / 62}
    found = fuse(first, second, 10)
    assert found.samples.tolist() == [9, 4, 2, 7]  # 2 and 7 are equal: the lower number comes first
    assert found.scores.tolist() == pytest.approx([expected[n] for n in found.samples.tolist()])
    assert fuse(first, second, 2).samples.tolist() == [9, 4]


def test_a_hybrid_search_is_the_fusion_of_both(asked):
    searcher, _ = asked
    parts, vectors = tiny_index.query([("text", 1.0)])
    for where in (None, {"label": {"in": [1, 2]}}):
        by_vectors = [h.sample for h in searcher.find(parts, vectors, "image", 999, where=where).hits]
        words = searcher.find([], [], "image", 999, text="blue", where=where)
        assert (words.how, words.candidates) == ("text", len(by_vectors))
        by_words = [h.sample for h in words.hits]
        assert set(by_words) == {
            h.sample
            for h in searcher.find(parts, vectors, "image", 999, where=where).hits
            if "blue" in h.item.captions[0]
        }
        sums: dict[int, float] = {}
        for order in (by_vectors, by_words):
            for rank, number in enumerate(order, 1):
                sums[number] = sums.get(number, 0) + 1 / (60 + rank)
        found = searcher.find(parts, vectors, "image", 20, where=where, text="blue")
        assert found.how == "hybrid"
        assert [h.sample for h in found.hits] == sorted(sums, key=lambda n: (-sums[n], n))[:20]
        assert [h.score for h in found.hits] == pytest.approx([sums[h.sample] for h in found.hits])
        ranks = {number: rank for rank, number in enumerate(by_words, 1)}
        assert [h.text_rank for h in found.hits] == [ranks.get(h.sample) for h in found.hits]
        assert all(set(h.cosines) == {"text"} for h in found.hits)
        assert any("by objective" in note and "1000 of each" in note for note in found.notes)


def test_words_that_nobody_wrote_change_no_order(asked):
    searcher, _ = asked
    parts, vectors = tiny_index.query([("text", 1.0)])
    plain = searcher.find(parts, vectors, "image", 20)
    mixed = searcher.find(parts, vectors, "image", 20, text="zebra")
    assert [h.sample for h in mixed.hits] == [h.sample for h in plain.hits]
    assert {h.text_rank for h in mixed.hits} == {None}
    assert searcher.find([], [], "image", 20, text="zebra").hits == []


def test_a_threshold_of_a_hybrid_search_is_the_vectors(asked):
    searcher, _ = asked
    parts, vectors = tiny_index.query([("text", 1.0)])
    plain = searcher.find(parts, vectors, "image", 99)
    least = plain.hits[4].score
    words = {h.sample for h in searcher.find([], [], "image", 99, text="blue").hits}
    found = searcher.find(parts, vectors, "image", 99, text="blue", threshold=least)
    assert {h.sample for h in found.hits} == words | {h.sample for h in plain.hits[:5]}
    alone = searcher.find([], [], "image", 99, text="blue", threshold=least)
    assert {h.sample for h in alone.hits} == words
    assert "threshold" in " ".join(alone.notes)


# thresholds and near duplicates


def test_a_threshold_cuts_the_hits(asked):
    searcher, _ = asked
    parts, vectors = tiny_index.query([("text", 1.0)])
    plain = searcher.find(parts, vectors, "image", 99).hits
    found = searcher.find(parts, vectors, "image", 99, threshold=plain[6].score).hits
    assert [h.sample for h in found] == [h.sample for h in plain[:7]]
    assert searcher.find(parts, vectors, "image", 99, threshold=1e9).hits == []


def loop_groups(table, order, bound):
    groups: list[list[str]] = []
    for key in order:
        for group in groups:
            pairs = itertools.product(table[key], table[group[0]])
            if any(float(F.cosine_similarity(a, b, dim=0)) >= bound for a, b in pairs):
                group.append(key)
                break
        else:
            groups.append([key])
    return groups


@pytest.mark.parametrize("bound", [0.5, 0.8, 0.99, 1.0])
def test_near_duplicates_fold_into_the_best(asked, bound):
    searcher, table = asked
    parts, vectors = tiny_index.query([("text", 1.0)])
    plain = [h.item.key for h in searcher.find(parts, vectors, "image", 99).hits]
    groups = loop_groups(table["image"], plain, bound)
    found = searcher.find(parts, vectors, "image", 99, fold=True, near=bound).hits
    name = {h.sample: h.item.key for h in searcher.find(parts, vectors, "image", 99).hits}
    assert [[h.item.key, *(name[n] for n in h.same)] for h in found] == groups
    assert [h.rank for h in found] == list(range(1, len(groups) + 1))
    assert len(groups) < len(plain)


def test_more_is_fetched_so_that_k_remain():
    """Forty copies of the best, then others: five hits are five different ones."""
    index = MemoryIndex()
    best = F.normalize(tiny_index.random(1, 1), dim=1)
    others = F.normalize(tiny_index.random(20, 2), dim=1)
    items = [Item(f"{i}", {"shard": "s"}) for i in range(60)]
    index.add("image", torch.cat([best.expand(40, -1), others]), torch.arange(60), items)
    searcher = Searcher(index, tiny_index.model("none"))
    found = searcher.find([Part("image", best[0])], [best[0]], "image", 5, fold=True).hits
    assert len(found) == 5
    assert found[0].same == tuple(range(2, 41))
    assert [h.same for h in found[1:]] == [()] * 4


def test_a_group_has_no_chains():
    """The second is near the first and the third near the second, which is not near enough to the first."""
    angles = torch.tensor([0.0, 0.1, 0.2])
    rows = torch.stack([angles.cos(), angles.sin()], 1)
    assert fold_near(rows, torch.tensor([1, 2, 3]), [1, 2, 3], 0.99) == [[1, 2], [3]]
    assert fold_near(rows, torch.tensor([1, 2, 3]), [2, 1, 3], 0.99) == [[2, 1, 3]]
    with pytest.raises(ValueError, match=r"near is a cosine between 0 and 1, got 1\.5"):
        fold_near(rows, torch.tensor([1, 2, 3]), [1], 1.5)


# likeness


def test_likeness_is_the_mean_of_the_samples_rows(asked):
    searcher, table = asked
    numbers = {item.key: n for n in searcher.index.numbers().tolist() for item in searcher.index.items([n])}
    several = next(key for key, rows in table["image"].items() if len(rows) == 3)
    mean = table["image"][several].double().mean(0)
    best = {key: max(float(row.double() @ mean) for row in rows) for key, rows in table["image"].items()}
    found = searcher.like(numbers[several], "image", 99)
    order = sorted(best.keys() - {several}, key=lambda key: (-float(torch.tensor(best[key]).float()), key))
    assert [h.item.key for h in found.hits] == order
    assert [h.score for h in found.hits] == pytest.approx([best[key] for key in order], abs=1e-5)
    assert [h.rank for h in found.hits] == list(range(1, len(best)))
    assert len(searcher.like(numbers[several], "image", 5).hits) == 5


def test_near_duplicates_of_the_asking_sample_stay(asked):
    searcher, _ = asked
    first = next(n for n in searcher.index.numbers().tolist() if len(searcher.index.rows("image", [n]).sample) == 1)
    row = searcher.index.rows("image", [first]).values
    copy = Item("copy", {"shard": "made", "key": "copy"}, [""], None, {})
    searcher.index.add("image", row, torch.tensor([0]), [copy])
    found = searcher.like(first, "image", 5, fold=True)
    assert found.hits[0].item.key == "copy"  # it was folded into the asking sample, and must not go with it
    assert first not in [n for hit in found.hits for n in (hit.sample, *hit.same)]
    assert len(found.hits) == 5


def test_left_out_samples_change_no_other(asked):
    searcher, _ = asked
    parts, vectors = tiny_index.query([("text", 1.0)])
    for text in (None, "blue"):
        order = [hit.sample for hit in searcher.find(parts, vectors, "image", 12, text=text).hits]
        without = [order[0], order[3], 10_000]
        found = searcher.find(parts, vectors, "image", 10, text=text, without=without)
        assert [hit.sample for hit in found.hits] == [n for n in order if n not in without]
        assert [hit.rank for hit in found.hits] == list(range(1, 11))


def test_a_sample_without_a_row_of_it_asks_with_all_others(asked):
    searcher, table = asked
    numbers = {item.key: n for n in searcher.index.numbers().tolist() for item in searcher.index.items([n])}
    lone = next(key for key in numbers if key not in table["image"])
    found = searcher.like(numbers[lone], "image", 5)
    assert found.how == "objective"
    assert {name.split(" ")[0] for name in found.hits[0].cosines} == {"audio", "points", "text"}
    by = searcher.like(numbers[lone], "image", 5, by=["audio"])
    assert {name.split(" ")[0] for name in by.hits[0].cosines} == {"audio"}
    with pytest.raises(ValueError, match=r"no row of 'image'; it has audio, points, text"):
        searcher.like(numbers[lone], "audio", by=["image"])
    with pytest.raises(KeyError):
        searcher.like(10_000, "image")


# calibration


def made(n=40, seed=3):
    """Embeddings of n samples in eight classes, with holes, two rows of some and a hard negative."""
    generator = torch.Generator().manual_seed(seed)
    centres = F.normalize(tiny_index.random(8, seed), dim=1)
    rows = {}
    for m, noise in (("image", 0.6), ("text", 0.4), ("audio", 0.5)):
        sample = torch.tensor([i for i in range(n) if (i + len(m)) % 6] + [3, 9] + [-1]).sort().values
        values = centres[sample.clamp(min=0) % 8] + noise * torch.randn(len(sample), 8, generator=generator)
        rows[m] = Rows(F.normalize(values, dim=1), sample)
    labels = [{"kind": f"c{i % 8}"} for i in range(n)]
    return Embeddings(rows, [f"k{i}" for i in range(n)], torch.arange(n), labels, group=torch.arange(n) // 2)


RULES = {
    "sample": (lambda table: by_sample(), lambda a, b: a == b),
    "group": (by_group, lambda a, b: a // 2 == b // 2),
    "label": (lambda table: by_label(table, "kind", [f"c{i}" for i in range(8)]), lambda a, b: a % 8 == b % 8),
}


@pytest.mark.parametrize("block", [30, pytest.param(1 << 22, marks=pytest.mark.sweep)])
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("query", [("text",), ("audio", "text"), pytest.param(("image",), marks=pytest.mark.sweep)])
def test_the_least_score_of_a_precision_is_the_loops(query, name, block, monkeypatch):
    monkeypatch.setattr("align.search.threshold.cells", block)
    table, (rule, same) = made(), RULES[name]
    pairs: list[tuple[float, bool]] = []
    firsts = {
        m: dict(reversed(list(zip(table[m].sample.tolist(), table[m].values.double(), strict=True)))) for m in query
    }
    asks = (
        [(int(s), [v.double()]) for s, v in zip(table[query[0]].sample, table[query[0]].values, strict=True) if s >= 0]
        if len(query) == 1
        else [(s, [firsts[m][s] for m in query]) for s in range(40) if all(s in firsts[m] for m in query)]
    )
    for (a, vectors), b in itertools.product(asks, range(40)):
        rows = table["image"].values[table["image"].sample == b].double()
        if len(rows) and not ("image" in query and a == b):
            value = max(sum(float(v @ row) for v in vectors) for row in rows)
            pairs.append((float(torch.tensor(value)), same(a, b)))
    hits = sum(hit for _, hit in pairs)
    for precision in (0.05, 0.3, 0.6, 0.9):
        possible = {}
        for least in {value for value, _ in pairs}:
            reach = [hit for value, hit in pairs if value >= least]
            if sum(reach) / len(reach) >= precision:
                possible[least] = (sum(reach) / len(reach), sum(reach) / hits, len(reach))
        if not hits or not possible:
            with pytest.raises(ValueError, match=r"no pair|no score has precision"):
                calibrate(table, rule(table), query, "image", precision, how="cosine")
            continue
        found = calibrate(table, rule(table), query, "image", precision, how="cosine")
        assert found.value == pytest.approx(min(possible), abs=1e-6)
        assert found[1:] == pytest.approx(possible[min(possible)])


def test_scores_that_are_equal_stand_or_fall_together():
    scores = torch.tensor([[0.9, 0.5, 0.5, 0.5, 0.1]])
    hit = torch.tensor([[True, True, False, False, False]])
    assert choose_threshold(lambda: [(scores, hit)], 0.5) == (0.5, 0.5, 1.0, 4)
    assert choose_threshold(lambda: [(scores, hit)], 0.6) == pytest.approx((0.9, 1.0, 0.5, 1))
    with pytest.raises(ValueError, match=r"no score has precision 0\.9: the best is 0\.333 at a score of 0\.5"):
        choose_threshold(lambda: [(scores[:, 1:], hit[:, 1:])], 0.9)
    with pytest.raises(ValueError, match="no pair of a query and a candidate is a hit"):
        choose_threshold(lambda: [(scores, ~hit & hit)], 0.9)
    for bad in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="a precision is above 0 and at most 1"):
            choose_threshold(lambda: [(scores, hit)], bad)


def test_a_kept_threshold_is_for_plain_queries(asked):
    assert name_threshold(["text", "audio"], "image", "cosine") == "audio+text_to_image/cosine"
    about = {"threshold": {"text_to_image/objective": {"value": 3.0}}}
    assert find_calibrated(about, [Part("text", 1), Part("audio", 1, 0.0)], "image", "objective") == 3.0
    for parts in ([Part("text", 1, 2.0)], [Part("text", 1), Part("text", 2)]):
        with pytest.raises(ValueError, match="for parts of weight 1, one a modality; state a number"):
            find_calibrated(about, parts, "image", "objective")
    with pytest.raises(
        ValueError, match="keeps no threshold for text_to_audio/cosine; it keeps text_to_image/objective"
    ):
        find_calibrated(about, [Part("text", 1)], "audio", "cosine")
    searcher, _ = asked
    with pytest.raises(ValueError, match=r"it keeps none\. Choose one with: align search INDEX --calibrate"):
        searcher.find(*tiny_index.query([("text", 1.0)]), "image", threshold="calibrated")


# bad queries


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([Part("txt", None)], "no tower for 'txt'; did you mean text?"),
        ([Part("smell", None)], "no tower for 'smell'; it has audio, image, points, text"),
        ([Part("text", torch.ones(8), 0.0)], "every part has weight 0"),
        ([Part("text", torch.ones(8), float("nan"))], "the weight of text is nan"),
        ([Part("text", torch.ones(8), float("inf"))], "the weight of text is inf"),
        ([Part("text", torch.ones(8)), Part("audio", torch.ones(7))], "that of audio is not"),
        ([Part("text", torch.ones(1, 8))], "an embedding is"),
        ([Part("text", torch.full((8,), torch.nan))], "the embedding of text is not finite"),
        ([Part("text", torch.ones(8)), Part("text", torch.ones(8), -1.0)], "cancel each other"),
        ([Part("text", torch.zeros(8))], "cancel each other"),
        ([], "no part to ask by"),
    ],
)
def test_a_bad_query_is_one_line(asked, parts, says):
    with pytest.raises(ValueError, match=says) as error:
        asked[0].search(parts, "image")
    assert "\n" not in str(error.value)


def test_a_bad_question_is_one_line(asked):
    searcher, _ = asked
    query = {"text": torch.ones(8)}
    with pytest.raises(ValueError, match=r"the index has no 'imag'; did you mean image\?"):
        searcher.search(query, "imag")
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        searcher.search(query, "image", 0)
    with pytest.raises(ValueError, match="how is 'cosine', 'mip' or 'objective'; got 'dot'"):
        searcher.search(query, "image", how="dot")
    with pytest.raises(ValueError, match="no operator 'gtr'"):
        searcher.search(query, "image", where={"label": {"gtr": 1}})
    with pytest.raises(ValueError, match="no trained term scores points by text alone"):
        searcher.search(query, "points", how="objective")
