"""Composed retrieval: a plain loop over queries and candidates, holes, several rows, files and bad input."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import tiny_space
import torch
import torch.nn.functional as F

from align.commands import main
from align.data import Shards
from align.evaluation import Composed, ComposedQuery, Space, read_composed, write_composed

QUERIES = [
    ComposedQuery("0000", "a ccc", ["0001", "0007", "0013"], ["0001", "0002", "0003", "0000"], "a bbb"),
    ComposedQuery("0006", "a ddd", ["0002"], ["0009", "0002"], "a bbb"),
    ComposedQuery("0002", "a fff", ["0004", "0010"], [], "a ddd"),  # sample 4 has no image
    ComposedQuery("0008", "a ggg", ["0011", "0008"], ["0001", "0003"], "a ddd"),  # no target in its subset
    ComposedQuery("0005", "an eee", ["0015", "0021"], ["0015", "0009"], "an fff"),
]
HOLES = [
    ComposedQuery("0004", "a bbb", ["0000"], [], "a fff"),  # no row asks
    ComposedQuery("0001", "a fff", ["0004"], [], "a ccc"),  # no row answers
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("composed")
    return tiny_space.write_tar(folder / "test-000000.tar", tiny_space.world(noise=0.6))


@pytest.fixture
def space(shards):
    return Space(tiny_space.model("pairwise"), Shards(str(shards), shuffle=False), draws=0)


def unit(x):
    return F.normalize(x.double(), dim=-1)


def rank(scores, targets):
    """Samples, the best first. Of equals a target is the last, and scores that say nothing find nothing."""
    if len(set(scores.values())) == 1 and set(scores) - targets:
        return []
    return sorted(scores, key=lambda s: (-scores[s], s in targets))


def loop(space, queries, way, of="image", scale=1.0, balance=0.5, by="image"):
    """Metric -> value by loops over queries and samples."""
    table, model = space.table(), space.model
    found = {}
    for query in queries:
        asks = table.ids.index(query.reference)
        row = next(i for i, s in enumerate(table[by].sample.tolist()) if s == asks)
        x = unit(table[by].values[row])
        text, before = unit(model.embed(text=[query.text, query.before])["text"])
        scores = {}
        for sample, y in zip(table[of].sample.tolist(), unit(table[of].values), strict=True):
            image, words = x @ y, text @ y
            direction = unit((1 - balance) * x + balance * before + scale * (text - before)) @ y
            ways = {
                "reference": image,
                "text": words,
                "sum": image + words,
                "product": (x * text * y).sum(),
                "direction": direction,
            }
            if sample != asks:
                scores[sample] = max(scores.get(sample, -9.0), float(ways[way].float()))
        targets = {table.ids.index(key) for key in query.targets} & set(scores)
        order = rank(scores, targets)
        for k in space.ks:
            found.setdefault(f"recall@{k}", []).append(float(any(s in targets for s in order[:k])))
            hits, gain = 0, 0.0
            for place, sample in enumerate(order[:k], 1):
                if sample in targets:
                    hits += 1
                    gain += hits / place
            found.setdefault(f"map@{k}", []).append(gain / min(k, len(targets)))
        inside = {s: x for s, x in scores.items() if table.ids[s] in query.subset}
        if targets & set(inside):
            inside = rank(inside, targets)
            for k in (1, 2, 3):
                found.setdefault(f"subset_recall@{k}", []).append(float(any(s in targets for s in inside[:k])))
    return {name: sum(values) / len(values) for name, values in found.items()}


@pytest.mark.parametrize("of", ["image", "audio", "text"])
def test_scores_are_those_of_a_plain_loop(space, of):
    found = Composed([*QUERIES, *HOLES], of=of, scale=0.8, balance=0.3).run(space)
    counted = [*QUERIES, *(HOLES[1:] if of != "image" else [])]
    for way in ("reference", "text", "sum", "product", "direction"):
        for metric, value in loop(space, counted, way, of, 0.8, 0.3).items():
            assert found.scores[f"composed/{way}/{metric}"] == pytest.approx(value), (way, metric)
    assert len(found.scores) == 5 * (2 * len(space.ks) + 3)
    left = 7 - len(counted)
    assert found.protocol["notes"] == [
        f"composed: {left} of 7 queries do not count: their reference has no image, or their targets have no {of}"
    ]


def test_another_modality_asks(space):
    found = Composed(QUERIES, reference="audio").run(space)
    for metric, value in loop(space, QUERIES, "sum", by="audio").items():
        assert found.scores[f"composed/sum/{metric}"] == pytest.approx(value), metric


def test_the_blind_chance_and_a_query_without_before(space):
    queries = [*QUERIES[:2], QUERIES[4]._replace(before=None)]
    found = Composed(queries).run(space)
    assert not any("direction" in name for name in found.scores)
    assert found.protocol["composed"]["chance"] == pytest.approx((3 / 22 + 1 / 22 + 2 / 22) / 3)
    assert Composed(HOLES).run(space).scores == {}


def test_a_tie_never_helps(space):
    """Equal candidates stand before a target."""
    table = space.table()
    flat = table["image"]._replace(values=torch.ones(table["image"].n, tiny_space.D))
    space._tables["embedding", "test"] = replace(table, rows=dict(table.rows) | {"image": flat})
    scores = Composed(QUERIES).run(space).scores
    assert scores["composed/sum/recall@1"] == 0
    assert scores["composed/sum/subset_recall@1"] == 0


def test_a_file_is_read_as_it_was_written(tmp_path):
    write_composed(tmp_path / "q.jsonl", QUERIES)
    read = read_composed(tmp_path / "q.jsonl")
    assert [query._asdict() | {"targets": [*query.targets], "subset": [*query.subset]} for query in read] == [
        query._asdict() for query in QUERIES
    ]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2: "),
        ("[]", r"line 2: a query is an object of reference, text, before, targets, subset; got \[\]"),
        ('{"reference": "a", "text": "b", "target": ["c"]}', "it has target"),
        ('{"reference": "a", "text": "", "targets": ["c"]}', "text is a text; got ''"),
        ('{"reference": "a", "text": "b", "targets": "c"}', "targets is a list of keys; got 'c'"),
        ('{"reference": "a", "text": "b", "targets": ["a"]}', "a query needs a target beside its reference"),
        ('{"reference": "a", "text": "b", "targets": ["c"], "before": 3}', "before is a text; got 3"),
    ],
)
def test_a_bad_line_is_one_line(tmp_path, line, says):
    good = '{"reference": "a", "text": "b", "targets": ["c"]}'
    (tmp_path / "q.jsonl").write_text(f"{good}\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=says):
        read_composed(tmp_path / "q.jsonl")


@pytest.mark.parametrize(
    ("evaluator", "says"),
    [
        (Composed(), r"composed needs queries: .*--queries FILE"),
        (Composed([QUERIES[0]._replace(reference="00001")]), "query 1: the reference '00001' is the key of no sample"),
        (
            Composed([QUERIES[0], QUERIES[1]._replace(targets=["0009x"])]),
            "query 2: the target '0009x' .*did you mean '0009'",
        ),
        (Composed([QUERIES[0]._replace(subset=["x"])]), "the subset 'x' is the key of no sample$"),
        (Composed(QUERIES, of="smell"), "composed: no tower for 'smell'; the model has image, audio, text"),
    ],
)
def test_bad_queries_are_one_line(space, evaluator, says):
    with pytest.raises(ValueError, match=says):
        evaluator.run(space)


def test_a_key_of_two_samples_is_refused(tmp_path, shards):
    again = tiny_space.write_tar(tmp_path / "test-000001.tar", tiny_space.world(3))
    space = Space(tiny_space.model(), Shards([str(shards), str(again)], shuffle=False), draws=0)
    with pytest.raises(ValueError, match="query 1: the reference '0000' is the key of 2 samples"):
        Composed(QUERIES).run(space)


def test_the_command_measures_queries_of_a_file(tmp_path, shards, capsys):
    import align

    align.save(tiny_space.model("pairwise"), tmp_path / "model")
    write_composed(tmp_path / "q.jsonl", QUERIES)
    given = [
        "evaluate",
        str(tmp_path / "model"),
        str(shards),
        "--with",
        "composed",
        "--draws",
        "50",
        "--allow",
        "tiny_space",
    ]
    assert main([*given, "--queries", str(tmp_path / "q.jsonl"), "--balance", "0.2"]) == 0
    shown = capsys.readouterr().out
    assert "composed retrieval" in shown
    results = json.loads((tmp_path / "model" / "results.json").read_text(encoding="utf-8"))
    assert results["composed/direction/map@5"] > 0
    assert main(given) == 2
    assert "name it: --queries FILE.jsonl" in capsys.readouterr().err
    assert main([*given, "--queries", str(tmp_path / "nothing")]) == 1
    assert capsys.readouterr().err.startswith("align: --queries: no file ")
    assert main([*given, "--queries", str(tmp_path / "q.jsonl"), "--balance", "2"]) == 2


def test_the_worlds_queries_change_one_attribute():
    from align.quickstart import ATTRIBUTES, compose_queries, draw

    labels = {f"s{i}": solid.label for i, solid in enumerate(draw("test", 120))}
    queries = compose_queries(labels)
    assert len(queries) > 80
    assert len({query["changed"] for query in queries}) == 4
    for query in queries:
        reference, changed = labels[query["reference"]], query["changed"]
        wanted = labels[query["targets"][0]]
        assert {name for name in ATTRIBUTES if reference[name] != wanted[name]} == {changed}
        assert query["targets"] == [key for key in labels if labels[key] == wanted]
        assert reference[changed] in query["before"]
        assert wanted[changed] in query["text"]
        rivals = set(query["subset"]) - set(query["targets"])
        assert len(rivals) == 5
        assert query["reference"] not in query["subset"]
        shared = {key: sum(wanted[name] == label[name] for name in ATTRIBUTES) for key, label in labels.items()}
        rest = set(labels) - set(query["subset"]) - {query["reference"]}
        assert min(shared[key] for key in rivals) >= max(shared[key] for key in rest)
    assert compose_queries(labels) == queries
    assert compose_queries(labels, seed=1) != queries
