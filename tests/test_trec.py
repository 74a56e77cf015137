"""TREC's files: written from a space, read back, and scored by a plain implementation of trec_eval's measures."""

from __future__ import annotations

import json
import math

import pytest
import tiny_space

from align.checkpoint import save
from align.commands import main
from align.data import Shards
from align.evaluation import Retrieval, Space, evaluate
from align.evaluation.trec import Trec, read_qrels, read_run, score_run
from align.evaluation.trec.names import write_key

OURS = {"map": "map", "mrr": "recip_rank", "ndcg@10": "ndcg_cut_10"} | {
    f"recall@{k}": f"success_{k}" for k in (1, 5, 10)
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Samples with holes and two captions, under a key that two shards share and one with a blank."""
    folder = tmp_path_factory.mktemp("shards")
    samples = list(tiny_space.world(20, noise=0.6).items())
    samples[7] = "00 #7", samples[7][1]
    more = list(tiny_space.world(3, seed=1).items())
    for i, part in enumerate((samples, more)):
        tiny_space.write_tar(folder / f"test-{i:06d}.tar", dict(part))
    return f"{folder}/*.tar"


def plain(scores, judged, k):
    """Every measure by its definition, for one query. scores, judged: lists of (docid, number)."""
    order = [name for name, _ in sorted(scores, key=lambda one: (one[1], one[0]), reverse=True)]
    relevance = dict(judged)
    relevant = [name for name, level in judged if level > 0]
    found = {"map": 0.0, "recip_rank": 0.0}
    seen = 0
    for place, name in enumerate(order, 1):
        if name in relevant:
            seen += 1
            found["map"] += seen / place / len(relevant)
            found["recip_rank"] = found["recip_rank"] or 1 / place
    top = [name for name in order[:k] if name in relevant]
    found[f"success_{k}"] = float(bool(top))
    found[f"P_{k}"] = len(top) / k
    found[f"recall_{k}"] = len(top) / len(relevant) if relevant else 0.0
    gain = sum(max(0, relevance.get(name, 0)) / math.log2(i + 1) for i, name in enumerate(order[:k], 1))
    levels = sorted((relevance[name] for name in relevant), reverse=True)[:k]
    best = sum(level / math.log2(i + 1) for i, level in enumerate(levels, 1))
    found[f"ndcg_cut_{k}"] = gain / best if best else 0.0
    return found


def test_measures_are_the_plain_loop():
    """Grades, ties by docid, a query without a list, one without a relevant document, and one that is not judged."""
    run = {
        "1": {"a": 3.0, "b": 2.0, "c": 2.0, "d": 1.0, "e": 0.5},
        "2": {"a": 0.1, "x": 0.1, "b": 0.1},
        "4": {"a": 1.0},
        "5": {"a": 1.0 + 1e-9, "b": 1.0},  # one number in float32
    }
    qrels = {
        "1": {"b": 1, "c": 0, "d": 2, "z": 3},
        "2": {"b": 1, "a": -1},
        "3": {"a": 1},
        "5": {"a": 1},
        "6": {"a": 0},
    }
    found = score_run(run, qrels, ks=(1, 2, 3))
    for k in (1, 2, 3):
        expected = [
            plain([(d, round(s, 6)) for d, s in run.get(q, {}).items()], list(judged.items()), k)
            for q, judged in qrels.items()
        ]
        for measure in expected[0]:
            assert found.values[measure] == pytest.approx([one[measure] for one in expected]), measure
            assert found.scores[measure] == pytest.approx(sum(one[measure] for one in expected) / 5)
    assert found.queries == ["1", "2", "3", "5", "6"]
    assert found.values["recip_rank"][3] == 0.5  # b stands before a
    assert found.notes == [
        "2 of 5 judged queries have no list: they count 0 (trec_eval -c)",
        "1 queries of the run are not judged: they do not count",
        "1 of 5 judged queries have no relevant document: they count 0",
    ]


@pytest.mark.parametrize("hit", ["sample", "label", "caption"])
def test_the_files_give_our_scores_where_nothing_ties(shards, tmp_path, hit):
    model = tiny_space.model("pairwise", "symile")
    data = Shards(shards, shuffle=False)
    more = {"hit": hit, "attribute": "kind" if hit == "label" else None, "draws": 0}
    found = evaluate(model, data, with_=["retrieval", Trec(tmp_path)], **more)
    names = sorted(path.stem for path in tmp_path.glob("*.run"))
    assert names == sorted(path.stem for path in tmp_path.glob("*.qrels"))
    assert {"image_to_audio", "text_to_image", "audio+image_to_text"} <= set(names)
    counts = found.protocol["trec"]["queries"]
    assert sorted(counts) == names
    equal = 0
    for name in names:
        run, qrels = read_run(tmp_path / f"{name}.run"), read_qrels(tmp_path / f"{name}.qrels")
        assert len(run) == len(qrels) == counts[name]
        theirs = score_run(run, qrels).scores
        ties = any(len(set(scores.values())) < len(scores) for scores in run.values())
        for ours, measure in OURS.items():
            if not ties:
                assert found.scores[f"{name}/{ours}"] == pytest.approx(theirs[measure], abs=1e-6), (name, ours)
        equal += not ties
    assert equal >= 2


def test_lines_names_and_depth(shards, tmp_path):
    """Keys of several rows or samples are numbered, blanks are encoded, and of equal scores the hit stands last."""
    data = Shards(shards, shuffle=False)
    Trec(tmp_path, depth=3).run(Space(tiny_space.model(), data, draws=0))
    lines = (tmp_path / "image_to_text.run").read_text().splitlines()
    fields = [line.split(" ") for line in lines]
    assert all(len(one) == 6 and one[1] == "Q0" and one[5] == "align" for one in fields)
    assert [one[3] for one in fields] == ["1", "2", "3"] * (len(lines) // 3)
    assert {"0005#0", "0005#1", "0000#0", "0000#1"} & {one[2] for one in fields}
    assert {one[0] for one in fields} >= {"00%20%237", "0000#0", "0000#1", "0003"}
    judged = read_qrels(tmp_path / "image_to_text.qrels")
    assert judged["0005"] == {"0005#0": 1, "0005#1": 1}
    assert judged["0000#1"] == {"0000#1": 1}
    assert "0004" not in judged  # it has no picture
    assert write_key("a%b\tc é") == "a%25b%09c%20é"
    constant = tiny_space.model()
    for name in ("image", "audio"):
        constant.towers[name].encoder.gain.data.zero_()
    Trec(tmp_path / "c").run(Space(constant, data, draws=0))
    run, hits = read_run(tmp_path / "c/image_to_audio.run"), read_qrels(tmp_path / "c/image_to_audio.qrels")
    last = {query: list(scores)[-1] for query, scores in run.items()}
    assert last == {query: next(iter(some)) for query, some in hits.items()}


def test_the_first_rank_alone_writes(shards, tmp_path, monkeypatch):
    space = Space(tiny_space.model(), Shards(shards, shuffle=False), draws=0)
    counts = Trec(tmp_path / "a").run(space).protocol["trec"]["queries"]
    monkeypatch.setattr("align.evaluation.trec.evaluator.rank", lambda: 1)
    assert Trec(tmp_path / "b").run(space).protocol["trec"]["queries"] == counts
    assert not (tmp_path / "b").exists()


def test_distractors_are_answers_that_nobody_asks_for(shards, tmp_path):
    tiny_space.write_tar(tmp_path / "more.tar", tiny_space.world(4, seed=3, noise=0.6))
    space = Space(
        tiny_space.model(), Shards(shards, shuffle=False), draws=0,
        distractors=Shards(str(tmp_path / "more.tar"), shuffle=False),
    )  # fmt: skip
    Trec(tmp_path / "out").run(space)
    ours = Retrieval().run(space).scores
    run, qrels = read_run(tmp_path / "out/image_to_audio.run"), read_qrels(tmp_path / "out/image_to_audio.qrels")
    assert {"%distractor:0000", "%distractor:0001"} < set(run["0002#0"])
    assert not any(name.startswith("%") for query in qrels for name in (query, *qrels[query]))
    assert score_run(run, qrels).scores["map"] == pytest.approx(ours["image_to_audio/map"], abs=1e-6)


@pytest.mark.parametrize(
    ("run", "qrels", "words"),
    [
        ("1 Q0 a 1 0.5 x\n\n1 Q0 b 2\n", "1 0 a 1\n", r"r:3: a line has 6 fields, qid Q0 docid rank score tag; got 4"),
        ("1 Q0 a 1 high x\n", "1 0 a 1\n", r"r:1: the score is 'high'"),
        ("1 Q0 a 1 nan x\n", "1 0 a 1\n", r"r:1: the score is 'nan'"),
        ("1 Q0 a 1 1 x\n1 Q0 a 2 1 x\n", "1 0 a 1\n", r"r:2: query '1' has document 'a' already"),
        ("1 Q0 a 1 1 x\n", "1 0 a yes\n", r"q:1: the relevance is 'yes'"),
        ("1 Q0 a 1 1 x\n", "1 0 a 1\n1 a 1\n", r"q:2: a line has 4 fields, qid 0 docid rel; got 3: '1 a 1'"),
        ("1 Q0 a 1 1 x\n", "\n", r"q has no lines; they are qid 0 docid rel"),
        ("1 Q0 a 1 1 x\n", "2 0 a 1\n", r"no query of the run is judged: it has '1', …, and the qrels have '2'"),
        (b"\xff\xfe", "2 0 a 1\n", r"r is no text in UTF-8"),
    ],
)
def test_a_bad_line_is_named(tmp_path, capsys, run, qrels, words):
    paths = tmp_path / "r", tmp_path / "q"
    for path, text in zip(paths, (run, qrels), strict=True):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=words):
        score_run(read_run(paths[0]), read_qrels(paths[1]))
    assert main(["trec", str(paths[0]), str(paths[1])]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1


def test_the_commands_write_and_score(shards, tmp_path, capsys):
    save(tiny_space.model(), tmp_path / "m")
    args = ["evaluate", str(tmp_path / "m"), shards, "--allow", "tiny_space", "--draws", "0", "--no-report"]
    assert main([*args, "--trec", str(tmp_path / "t"), "--with", "retrieval"]) == 0
    scores = json.loads((tmp_path / "m/results.json").read_text())
    capsys.readouterr()
    files = [str(tmp_path / f"t/image_to_audio.{kind}") for kind in ("run", "qrels")]
    assert main(["trec", *files, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["map"] == pytest.approx(scores["image_to_audio/map"], abs=1e-6)
    assert found["num_q"] == scores["protocol"]["trec"]["queries"]["image_to_audio"]
    assert main(["trec", *files, "--at", "2"]) == 0
    out = capsys.readouterr().out
    assert f"{'map':<14} {found['map']:.4f}" in out
    assert "success_2" in out
    (tmp_path / "file").write_text("")
    for more, code, words in (
        (["--trec", str(tmp_path / "file")], 2, "is a file"),
        (["--trec", str(tmp_path / "t"), "--trec-depth", "0"], 2, "1 candidate of a query at least"),
        (["--trec-depth", "5"], 2, "which is not given"),
    ):
        assert main([*args, *more]) == code
        assert words in capsys.readouterr().err
    for at in ("x", "0", ""):
        assert main(["trec", *files, "--at", at]) == 2
        assert "the k are" in capsys.readouterr().err
    with pytest.raises(ValueError, match="k >= 1"):
        score_run({"1": {}}, {"1": {}}, ks=(0,))
    with pytest.raises(ValueError, match="no judgements"):
        score_run({"1": {}}, {})
