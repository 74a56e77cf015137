"""Retrieval's directions: captions, distractors, a modality with itself, grades, tiles, volumes and single queries."""

from __future__ import annotations

import sys

import pytest
import tiny_space
import torch
import torch.nn.functional as F

from align.commands.evaluating.ranking import Ranking
from align.data import Shards
from align.embedding.tables import vectors
from align.evaluation import Retrieval, Space, retrieval
from align.evaluation.blocks import score_blocks
from align.evaluation.directions import directions
from align.evaluation.hits import by_caption, by_group, by_label, by_sample
from align.evaluation.labels import memberships
from align.evaluation.ranking import Asked, GradedMetrics, HitMetrics, Ranked, rank_queries
from align.evaluation.retrieval import retrieval_shards
from align.evaluation.spread import spread
from align.page.section import Matrix
from align.scoring import score
from align.values import Embeddings, Rows, TermInfo


def random(n, d=8, seed=0):
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def embeddings(rows, size, **more) -> Embeddings:
    return Embeddings(
        {m: Rows(*row) if len(row) == 2 else Rows(row[0], row[1], content=row[2]) for m, row in rows.items()},
        [f"{i}" for i in range(size)],
        torch.arange(size),
        **more,
    )


def ask(e, rule, *, ks=(1, 5), precision=True, **more) -> dict[tuple[str, str], Ranked]:
    return directions(e, rule, lambda hits, _: HitMetrics(hits, ks, 10, precision), terms=(), **more)


@pytest.fixture
def space(tmp_path):
    tiny_space.write_tar(tmp_path / "s" / "test-000000.tar", tiny_space.world())
    shards = Shards(str(tmp_path / "s" / "test-*.tar"), shuffle=False)
    return Space(tiny_space.model("pairwise"), shards, ks=(1, 5), draws=50)


# captions and distractors


def recalled(scores, positive, k) -> float:
    """The recall of CLIP's papers: the share of queries that have a positive among the k best."""
    best = scores.topk(k, dim=1).indices
    return float((positive.gather(1, best).sum(1) > 0).double().mean())


def test_captions_are_counted_as_in_the_literature():
    """Each caption asks, and the best of an image's captions counts: recall of CLIP_benchmark's text-image matrix."""
    images, number = random(20, seed=1), torch.arange(20).repeat_interleave(5)
    texts = F.normalize(images[number] + 0.9 * random(100, seed=2), dim=1)
    e = embeddings({"image": (images, torch.arange(20)), "text": (texts, number)}, 20)
    got = retrieval_shards(e, by_sample(), ks=(1, 2, 5))
    scores = texts @ images.T
    positive = number[:, None] == torch.arange(20)
    for k in (1, 2, 5):
        assert got[f"text_to_image/recall@{k}"] == pytest.approx(recalled(scores, positive, k), abs=1e-9)
        assert got[f"image_to_text/recall@{k}"] == pytest.approx(recalled(scores.T, positive.T, k), abs=1e-9)
    assert 0 < got["text_to_image/recall@1"] < 1
    assert got["text_to_image/mrr"] == got["text_to_image/map"]  # one hit a query


@pytest.mark.parametrize("rule", ["sample", "caption"])
def test_distractors_are_candidates_that_ask_nothing(rule):
    texts, more = random(6, seed=2), random(9, seed=3)
    said = torch.tensor([10, 11, 12, 10, 14, 15])
    other = torch.tensor([20, 21, 11, 22, 23, 24, 25, 26, 10])  # two of the distractors say what a sample says
    s = torch.arange(6)
    e = embeddings({"image": (random(6, seed=1), s, s + 50), "text": (texts, s, said)}, 6)
    far = embeddings({"text": (more, torch.arange(9), other)}, 9)
    hits = by_caption(e, distractors=far) if rule == "caption" else by_sample()
    found = ask(e, hits, distractors=far)
    candidates, content = torch.cat([texts, more]), torch.cat([said, other])
    scores = (vectors(e, "image") @ candidates.T).tolist()
    place = []
    for i, row in enumerate(scores):
        right = [c == said[i] if rule == "caption" else j == i for j, c in enumerate(content)]
        best = max(x for x, h in zip(row, right, strict=True) if h)
        place.append(1 + sum(x >= best for x, h in zip(row, right, strict=True) if not h))
    assert found["image", "text"].values["median_rank"].tolist() == place
    back = found["text", "image"]
    assert back.row.tolist() == list(range(6))
    plain = ask(e, by_caption(e) if rule == "caption" else by_sample())["text", "image"]
    assert back.values["mrr"].equal(plain.values["mrr"])


# a modality with itself


def test_a_modality_asks_for_itself_without_its_copies():
    values = random(8, seed=4)
    values[1] = values[0]  # a copy, of another class
    content = torch.tensor([7, 7, 1, 2, 3, 4, 5, 6])
    labels = ["a", "b", "a", "b", "a", "b", "a", None]
    e = embeddings({"image": (values, torch.arange(8), content)}, 8, labels=labels)
    found = ask(e, by_label(e, "label", ["a", "b"]), intra=True)["image", "image"]
    assert found.row.tolist() == list(range(7))
    scores = values @ values.T
    for i in range(7):
        others = [j for j in range(8) if content[j] != content[i]]
        best = max(scores[i, j] for j in others if labels[j] == labels[i])
        rank = 1 + sum(scores[i, j] >= best for j in others if labels[j] != labels[i])
        assert found.values["median_rank"][i] == rank
    shares = [3, 2, 3, 2, 3, 2, 3]
    assert found.chance == pytest.approx(sum(n / (6 if i < 2 else 7) for i, n in enumerate(shares)) / 7)
    assert ask(e, by_sample(), intra=True) == {}  # a row is no hit for itself


def test_a_constant_space_finds_nothing_at_all():
    same, s = random(1).expand(12, -1).contiguous(), torch.arange(12)
    labels = [{"x": f"{i % 3}", "y": f"{i % 2}"} for i in range(12)]
    e = embeddings(dict.fromkeys("ab", (same, s, s)), 12, labels=labels)
    rules = [by_label(e, name, list("012")) for name in ("x", "y")]
    for rule in (by_sample(), by_caption(embeddings({"text": (same, s, s)}, 12)), *rules):
        for precision in (True, False):
            for pair, one in ask(e, rule, precision=precision, intra=True).items():
                assert {v for k, v in one.scores.items() if k not in ("chance", "median_rank")} == {0.0}, pair
                assert one.scores["median_rank"] == 12 - (pair[0] == pair[1])
    graded = directions(e, by_sample(), lambda *_: GradedMetrics(rules, 10), terms=(), intra=True)
    assert set(graded) == {(a, b) for a in "ab" for b in "ab"}
    assert all(one.scores == {"ndcg@10": 0.0} for one in graded.values())


# grades


def test_grades_are_the_attributes_in_common():
    n, draw = 30, torch.Generator().manual_seed(0)
    drawn = torch.randint(3, (2, n), generator=draw).tolist()
    labels = [None if i == 4 else {"x": f"{drawn[0][i]}", "y": [f"{drawn[1][i]}", "2"]} for i in range(n)]
    e = embeddings({m: (random(n, seed=i), torch.arange(n)) for i, m in enumerate("ab")}, n, labels=labels)
    rules = [by_label(e, name, list("012")) for name in ("x", "y")]
    found = directions(e, by_sample(), lambda *_: GradedMetrics(rules, 10), terms=())["a", "b"]
    levels = [
        [0 if 4 in (i, j) else 1 + (drawn[0][i] == drawn[0][j]) for j in range(n)]  # all y have the class 2
        for i in range(n)
    ]
    scores = vectors(e, "a") @ vectors(e, "b").T
    discount = 1 / torch.arange(2, 12).double().log2()
    for value, i in zip(found.values["ndcg@10"].tolist(), found.row.tolist(), strict=True):
        level = torch.tensor(levels[i]).double()
        order = scores[i].argsort(descending=True)[:10]
        assert value == pytest.approx(float(level[order] @ discount / (level.sort().values.flip(0)[:10] @ discount)))
    assert found.row.tolist() == [i for i in range(n) if i != 4]


@pytest.mark.parametrize("most", [0, 4])  # by products of memberships, or by comparisons
def test_labels_of_several_classes(most, monkeypatch):
    monkeypatch.setattr(sys.modules["align.evaluation.hits"], "COMPARED", most)
    monkeypatch.setattr(sys.modules["align.evaluation.hits"], "TILE", 2)
    labels = [["a", "b"], "b", None, ["c", "a", "a"], "d", ["b", "c"]]
    e = embeddings({"image": (random(6), torch.arange(6))}, 6, labels=labels)
    s = torch.tensor([3, -1, 0, 1, 2, 4, 5])
    table = memberships(labels, "label", list("abc"))
    expected = [[bool((table[i] & table[j]).any()) and min(i, j) >= 0 for j in s.tolist()] for i in s.tolist()]
    assert by_label(e, "label", list("abc"))(s, s).tolist() == expected
    assert not by_label(e, "other", list("abc"))(s, s).any()


def test_groups_of_any_number():
    big = 1 << 62
    e = embeddings({"a": (random(4), torch.arange(4))}, 4, group=torch.tensor([big, -1, big, big + 1]))
    s = torch.tensor([0, 1, 2, 3, -1])
    assert by_group(e)(s, s).nonzero().tolist() == [[0, 0], [0, 2], [1, 1], [2, 0], [2, 2], [3, 3]]


# tiles


@pytest.mark.parametrize("kind", ["pairwise", "symile", "volume", "area"])
def test_tiles_and_blocks_change_nothing(kind, monkeypatch):
    blocks = sys.modules["align.evaluation.blocks"]
    query = {"image": random(7, seed=1), "audio": random(7, seed=2)}
    texts = random(11, seed=3)
    modalities = ("image", "text") if kind == "pairwise" else ("audio", "image", "text")
    terms = [TermInfo(modalities, kind, 5.0, 0.5)]
    double = {m: x.double() for m, x in query.items()}
    whole = score(double, texts.double(), "objective", of="text", terms=terms).float()
    monkeypatch.setattr(blocks, "TILE", 3)
    monkeypatch.setattr(blocks, "cells", 44)
    at = torch.tensor([6, 0, 0, 3, 2])
    tables = [texts[:5], texts[5:]]
    for rows, expected in ((None, whole), (dict.fromkeys(query, at), whole[at])):
        parts = list(score_blocks(query, tables, "objective", of="text", terms=terms, rows=rows))
        assert torch.allclose(torch.cat([scores for _, scores in parts]), expected, atol=1e-6)
        assert [part.start for part, _ in parts] == list(range(0, len(expected), 4))


@pytest.mark.parametrize("kind", ["symile", "volume", "area"])
def test_terms_of_three_rank_their_candidates(kind, monkeypatch):
    monkeypatch.setattr(sys.modules["align.evaluation.blocks"], "TILE", 4)
    monkeypatch.setattr(sys.modules["align.evaluation.ranking"], "CELLS", 25)
    n = 10
    e = embeddings({m: (random(n, seed=i), torch.arange(n)) for i, m in enumerate(("audio", "image", "text"))}, n)
    term = TermInfo(("audio", "image", "text"), kind, 4.0)
    found = retrieval_shards(e, by_sample(), terms=[term])
    a, i, t = (vectors(e, m).double() for m in ("audio", "image", "text"))
    places = []
    for q in range(n):
        if kind == "symile":
            scores = [float((a[q] * i[q] * x).sum()) for x in t]
        elif kind == "volume":
            scores = [-float(torch.linalg.det((v := torch.stack([a[q], i[q], x])) @ v.T).clamp(min=0)) for x in t]
        else:  # the triangle of the three ends: half the root of |u|²|v|² - (u·v)²
            sides = [(a[q] - x, i[q] - x) for x in t]
            scores = [-float((u @ u) * (v @ v) - (u @ v) ** 2) for u, v in sides]
        places.append(1 + sum(x >= scores[q] for j, x in enumerate(scores) if j != q))
    assert found["audio+image_to_text/mrr"] == pytest.approx(sum(1 / r for r in places) / n, abs=1e-6)


# the evaluator


def test_every_score_has_samples_and_an_interval(space):
    found = Retrieval().run(space)
    kept = {key for key in found.scores if not key.endswith("/chance")}
    assert set(found.samples) == set(found.intervals) == kept
    assert {key.rpartition("/")[2] for key in kept} == {"recall@1", "recall@5", "median_rank", "map", "mrr", "ndcg@10"}
    for key in kept:
        value, sample = found.samples[key]
        if key.endswith("/median_rank"):
            assert float(value.sort().values[(len(value) - 1) // 2]) == found.scores[key]
            assert key in found.statistics
        else:
            assert float(value.double().mean()) == pytest.approx(found.scores[key], abs=1e-12)
        low, high = found.intervals[key]
        assert low <= found.scores[key] <= high
        assert len(value) == len(sample)
    assert found.samples["text_to_image/mrr"][1].tolist() == sorted([*(i for i in range(24) if i != 4), 5])
    assert found.scores["class/image_to_text/ndcg@10"] > 0.7  # of kind and half
    assert found.section is not None
    shown = found.section.blocks[0]
    assert isinstance(shown, Matrix)
    assert shown.intervals["mrr"]["image", "text"] == found.intervals["image_to_text/mrr"]
    assert "interval" not in " ".join(found.protocol["notes"])


def test_options_and_distractors_of_the_command(space, tmp_path):
    tiny_space.write_tar(tmp_path / "d" / "more-000000.tar", tiny_space.world(9, seed=5))
    far = Shards(str(tmp_path / "d" / "*.tar"), shuffle=False)
    with_more = Space(space.model, space.shards, ks=(1, 5), distractors=far, draws=0)
    plain, found = (Ranking(intra=True, ndcg=3).evaluator().run(one) for one in (space, with_more))
    assert found.protocol["retrieval"]["distractors"] == {"audio": 8, "image": 8, "text": 10}
    assert (
        "retrieval has distractors, which are candidates and ask nothing: 8 of audio, 8 of image, 10 of text"
        in (found.protocol["notes"])
    )
    assert "distractors" not in plain.protocol["retrieval"]
    said = set(space.table()["text"].content.tolist())
    equal = sum(one in said for one in with_more.table(split="distractors")["text"].content.tolist())
    assert equal
    assert (
        f"{equal} distractors of text equal an answer: they tie with it, and a tie never helps; --hit caption "
        "takes equal texts as one answer" in found.protocol["notes"]
    )
    assert "class/kind/image_to_image/ndcg@3" in plain.scores
    assert plain.scores["class/kind/image_to_image/map"] > 0.5
    assert found.scores["image_to_text/chance"] < plain.scores["image_to_text/chance"]
    for key, value in found.scores.items():  # more candidates, and no more hits
        if key.rpartition("/")[2] in ("recall@1", "mrr", "map"):
            assert value <= plain.scores[key] + 1e-12, key
    assert found.intervals == {}
    with pytest.raises(ValueError, match="nDCG@k needs k >= 1, got 0"):
        Ranking(ndcg=0).evaluator()


def test_histograms_are_shares_of_hits_and_others(space):
    table = space.table()
    [found] = [one for one in spread(table, by_sample(), seed=0) if one.title == "image and text"]
    cosine, hits = (
        vectors(table, "image") @ vectors(table, "text").T,
        table["image"].sample[:, None] == table["text"].sample,
    )
    for name, values in (("hits", cosine[hits]), ("others", cosine[~hits])):
        for share, low, high in zip(found.shares[name], found.edges[:-1], found.edges[1:], strict=True):
            inside = ((values >= low - 1e-5) & (values <= high + 1e-5)).double().mean()
            assert share <= float(inside) + 1e-9
        assert sum(found.shares[name]) == pytest.approx(1)
    one, again = (spread(table, by_sample(), seed=1, rows=7) for _ in range(2))
    assert one == again
    assert one != spread(table, by_sample(), seed=2, rows=7)


def test_a_query_without_a_hit_has_no_score():
    s = torch.arange(3)
    assert retrieval({"a": random(3)}, random(3), s, s + 9, by_sample(), of="b") == {}


def test_a_row_of_unknown_content_is_not_its_match_either():
    rows, sample, unknown = torch.eye(4), torch.arange(4), torch.full((4,), -1)
    asked = Asked({"image": rows}, {"image": sample}, sample, "image", [rows], sample, unknown)
    assert not len(rank_queries(asked, HitMetrics(by_sample(), (1,), 10, precision=True), how="cosine").row)
