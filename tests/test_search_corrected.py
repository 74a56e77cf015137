"""An index that is corrected for hubs: its order against a loop, through changes, and from the command line."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import planted
import pytest
import tiny_index
import tiny_space
import torch
import torch.nn.functional as F

import align
from align.checkpoint import save
from align.commands import main
from align.data import Shards
from align.evaluation import Hubness, Space
from align.search.correcting import make_shift
from align.search.item import Item
from align.search.local import LocalIndex, compaction, growing
from align.search.memory import MemoryIndex
from align.search.searcher import Searcher
from align.search.shift import Shift, match_segments, name_shift
from align.search.where import parse

trust = ["--allow", "tiny_space"]
NAME = "text_to_image/objective"


def make_index(kind, folder):
    return MemoryIndex() if kind == "memory" else LocalIndex.create(folder / "i")


def keep(index, name, shift, facts):
    if isinstance(index, MemoryIndex):
        index.correct(name, shift, facts)
    else:
        with index.change() as made:
            made.correct(name, shift, facts)


def draw_shift(index, of="image", seed=5):
    """A number for each row that the index has."""
    sample = index.rows(of, index.numbers(of)).sample
    draw = torch.Generator().manual_seed(seed)
    return Shift(sample, 8 * torch.rand(len(sample), generator=draw), "nnn")


def order_by_loop(index, table, vector, shift, scale=1.0):
    """(key, score) of each sample by its best row, each row's number taken from its score."""
    best: dict[str, float] = {}
    numbers = {
        item.key: n for n, item in zip(index.numbers().tolist(), index.items(index.numbers().tolist()), strict=True)
    }
    for key, rows in table.items():
        mine = [float(x) for x, s in zip(shift.shift, shift.sample.tolist(), strict=True) if s == numbers.get(key)]
        if key not in numbers:
            continue
        mine = mine or [shift.mean] * len(rows)
        best[key] = max(scale * float(row.double() @ vector.double()) - x for row, x in zip(rows, mine, strict=True))
    return sorted(best.items(), key=lambda pair: -pair[1])


@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_the_order_is_that_of_a_loop(kind, tmp_path, monkeypatch):
    """Through additions, deletions and a compaction into many segments."""
    monkeypatch.setattr(growing, "ROWS", 13)
    monkeypatch.setattr(compaction, "BLOCK", 7)
    index = make_index(kind, tmp_path)
    table = tiny_index.fill(index)["image"]
    shift = draw_shift(index)
    keep(index, NAME, shift, {"bank": 9, "of": "image"})
    model = tiny_index.model("pairwise")
    searcher = Searcher(index, model)
    parts, vectors = tiny_index.query([("text", 1.0)])

    def compare(notes):
        found = searcher.find(parts, vectors, "image", 200)
        expected = order_by_loop(index, table, vectors[0], shift, 10.0)
        assert [hit.score for hit in found.hits] == pytest.approx([score - 2.0 for _, score in expected], abs=1e-4)
        assert [hit.item.key for hit in found.hits][:20] == [key for key, _ in expected][:20]
        assert found.correction == "nnn"
        assert [note for note in found.notes if "hubs" in note or "later" in note or "came after" in note] == notes
        every: Any = index.rows("image", index.numbers("image"))
        less = shift.match(every.sample)
        for hit in found.hits:  # the cosine is that of the row that counts
            mine = every.sample == hit.sample
            cosines = F.normalize(every.values[mine], dim=1) @ vectors[0]
            assert hit.cosines["text"] == pytest.approx(float(cosines[(10 * cosines - less[mine]).argmax()]), abs=1e-5)

    said = "scores are corrected for hubs by nnn, with a bank of 9 queries"
    compare([said])
    index.delete(["k001", "k004", "k007", "k013"])
    compare([said])
    more = tiny_index.fill(index, 12, start=60)["image"]
    table.update(more)
    later = sum(map(len, more.values()))
    again = f"{later} rows of image came after the correction and take its mean; "
    compare([said, again + "correct them with: align search INDEX --correct SHARDS"])
    if isinstance(index, LocalIndex):
        index.compact()
        compare([said, again + "correct them with: align search INDEX --correct SHARDS"])
        assert index.check() == []
        index.close()
        index = LocalIndex.open(tmp_path / "i")
        searcher = Searcher(index, model)
        compare([said, again + "correct them with: align search INDEX --correct SHARDS"])


def test_a_filter_and_norms_do_not_disturb_the_numbers(tmp_path):
    memory, folder = MemoryIndex(), LocalIndex.create(tmp_path / "i")
    for index in (memory, folder):
        tiny_index.fill(index, unit=False)
    shift = draw_shift(memory)
    query = tiny_index.random(3, 1)
    for where in (None, {"label": 2}, {"label": {"in": [0, 1, 3]}}):
        tree = None if where is None else parse(where)
        for scaled in (False, True):
            scores, samples = folder.search(query, "image", 7, tree, scaled=scaled, shift=shift)
            expected = memory.search(query, "image", 7, tree, scaled=scaled, shift=shift)
            assert samples.tolist() == expected[1].tolist()
            assert torch.allclose(scores, expected[0])
            rows: Any = memory.rows("image", samples[0])
            values = rows.values if scaled else F.normalize(rows.values, dim=1)
            by_row = values.double() @ query[0].double() - shift.match(rows.sample).double()
            best = [float(by_row[rows.sample == s].max()) for s in samples[0].tolist()]
            assert scores[0].tolist() == pytest.approx(best, abs=1e-5)


def test_a_sample_in_two_segments_keeps_its_numbers():
    shift = Shift(torch.tensor([1, 2, 2, 2, 5]), torch.tensor([0.1, 0.2, 0.3, 0.4, 0.6]), "nnn")
    first, second = match_segments(shift, [torch.tensor([1, 2]), torch.tensor([2, 2, 5, 6])])
    assert first.tolist() == pytest.approx([0.1, 0.2])
    assert second.tolist() == pytest.approx([0.3, 0.4, 0.6, 0.32])
    assert shift.count_missing(torch.tensor([1, 2, 2, 2, 2, 5, 6, 6])) == 3
    later, earlier = match_segments(shift, [torch.tensor([5]), torch.tensor([1, 2, 2, 2])])  # rows that came later
    assert later.tolist() == pytest.approx([0.6])
    assert earlier.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert match_segments(shift, []) == []


@pytest.mark.parametrize("method", ["nnn", "inverted_softmax", "dual_bank", "sinkhorn"])
def test_an_index_is_corrected_as_candidates_are(method, tmp_path, monkeypatch):
    from align.scoring import repairs
    from align.scoring.bank import Bank
    from align.search import correcting

    monkeypatch.setattr(correcting, "BLOCK", 11)
    queries, others, candidates = planted.hubs(n=40)
    items = [Item(f"k{i}", {"shard": "/s", "key": f"k{i}"}) for i in range(40)]
    index = LocalIndex.create(tmp_path / "i")
    index.add("image", 3 * candidates, torch.arange(40), items)
    made = make_shift(index, "text", "image", others, queries, method, how="cosine")
    given = Bank(others, candidates, planted.cosines)
    expected = repairs.dual_bank(given, queries) if method == "dual_bank" else getattr(repairs, method)(given)
    assert made.shift.shift.tolist() == pytest.approx(expected.shift.tolist(), abs=1e-5)
    assert made.shift.sample.tolist() == list(range(1, 41))
    assert made.facts["rows"] == 40
    assert made.facts["bank"] == len(others)


def test_only_its_own_queries_are_corrected(tmp_path):
    index = LocalIndex.create(tmp_path / "i")
    tiny_index.fill(index)
    keep(index, NAME, draw_shift(index), {"bank": 9, "of": "image"})
    searcher = Searcher(index, tiny_index.model("pairwise"))

    def ask(parts, of="image", **options):
        found = searcher.find(*tiny_index.query(parts), of, 5, **options)
        return found.correction, [note for note in found.notes if "hubs" in note]

    assert ask([("text", 1.0)])[0] == "nnn"
    assert ask([("text", 1.0)], correct=False) == ("", [])
    assert ask([("text", 1.0)], how="cosine") == ("", [])
    assert ask([("audio", 1.0)]) == ("", [])
    assert ask([("text", 1.0)], of="audio") == ("", [])
    weights = "scores are not corrected for hubs: a correction is for one part of weight 1"
    assert ask([("text", 0.5)]) == ("", [weights])
    assert ask([("text", 1.0), ("text", -1.0)]) == ("", [weights])
    with index.change() as made:
        made.about(threshold={NAME: {"value": -99.0}})
    calibrated = "scores are not corrected for hubs: a calibrated threshold is of scores as they are"
    assert ask([("text", 1.0)], threshold="calibrated") == ("", [calibrated])
    with index.change() as made:
        made.correct(NAME, None)
    assert index.about.get("correction") is None
    assert ask([("text", 1.0)]) == ("", [])


def test_damage_is_found(tmp_path):
    index = LocalIndex.create(tmp_path / "i")
    tiny_index.fill(index)
    keep(index, NAME, draw_shift(index), {"bank": 9, "of": "image"})
    assert index.check() == []
    with closing(sqlite3.connect(tmp_path / "i" / "index.sqlite")) as connection, connection:
        connection.execute("UPDATE shifts SET shift = zeroblob(length(shift))")
    fresh = LocalIndex.open(tmp_path / "i")
    line = f"the correction {NAME} of the index is damaged: its checksum differs; make it anew with: align search INDEX"
    assert [found[: len(line)] for found in fresh.check()] == [line]
    with pytest.raises(ValueError, match="is damaged"):
        fresh.shift(NAME)
    with closing(sqlite3.connect(tmp_path / "i" / "index.sqlite")) as connection, connection:
        connection.execute("DROP TABLE shifts")
    assert LocalIndex.open(tmp_path / "i").check() == [f"the index keeps no correction {NAME}"]


# the command


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corrected")
    tiny_space.write_tar(folder / "test.tar", tiny_space.world(40, noise=0.6))
    train = {f"t{key}": sample for key, sample in tiny_space.world(60, seed=1, noise=0.6).items()}
    tiny_space.write_tar(folder / "train.tar", train)
    save(tiny_space.model("pairwise"), folder / "m")
    assert main(["index", "build", str(folder / "m"), str(folder / "test.tar"), *trust]) == 0
    command = ["search", str(folder / "m"), "--of", "image", "--correct", str(folder / "train.tar"), *trust]
    assert main([*command]) == 0
    return folder


def run(capsys, *args):
    capsys.readouterr()
    code = main([str(a) for a in args])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_search_says_that_it_is_corrected(place, capsys):
    code, out, _ = run(capsys, "search", place / "m", "a bbb", "--of", "image", *trust)
    assert code == 0
    assert "image, by objective, corrected by nnn" in out
    assert "scores are corrected for hubs by nnn, with a bank of 61 queries" in out
    code, out, _ = run(capsys, "search", place / "m", "a bbb", "--of", "image", "--no-correction", *trust)
    assert code == 0
    assert "corrected" not in out
    found = json.loads(run(capsys, "search", place / "m", "a bbb", "--of", "image", "--json", *trust)[1])
    assert found["correction"] == "nnn"
    code, out, _ = run(capsys, "index", "show", place / "m" / "index")
    assert "hubs: text_to_image/objective is corrected by nnn, with 61 queries" in out


def test_a_bank_of_the_index_itself_is_marked(place, capsys, tmp_path):
    built = run(capsys, "index", "build", place / "m", place / "test.tar", "--out", tmp_path / "i", *trust)
    assert built[0] == 0
    command = ["search", tmp_path / "i", "--of", "image", "--correct", place / "test.tar", *trust]
    code, out, _ = run(capsys, *command)
    assert code == 0
    assert "corrected by nnn-transductive" in out
    assert "40 samples of the bank are in the index, which a transductive correction has seen" in out
    out = run(capsys, "search", tmp_path / "i", "a bbb", "--of", "image", *trust)[1]
    assert "scores are corrected for hubs by nnn-transductive, with a bank of 41 queries" in out


def test_the_index_finds_what_the_evaluation_measured(place):
    """Recall of the corrected index is hubness's, for the same queries and rows, and other than without."""
    shards = Shards(str(place / "test.tar"), shuffle=False)
    searcher = align.open_index(place / "m", allow=("tiny_space",))
    space = Space(searcher.model, shards, train=Shards(str(place / "train.tar"), shuffle=False), draws=0)
    measured = Hubness(repairs=("nnn",)).run(space).scores
    table: Any = space.table()
    have = set(table["image"].sample.tolist())
    asks = [(i, s) for i, s in enumerate(table["text"].sample.tolist()) if s in have]
    found = {}
    for correct in (True, False):
        for k in (1, 5, 10):
            right = 0
            for row, sample in asks:
                answer = searcher.search({"text": table["text"].values[row]}, "image", k, correct=correct)
                right += table.ids[sample] in [hit.item.key for hit in answer.hits]
            found[correct, k] = right / len(asks)
    for k in (1, 5, 10):
        assert found[True, k] == pytest.approx(measured[f"hubness/text_to_image/nnn/recall@{k}"])
        assert found[False, k] == pytest.approx(measured[f"hubness/text_to_image/recall@{k}"])
    assert any(found[True, k] != found[False, k] for k in (1, 5, 10))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--no-correction"], "--correct stores a correction, --no-correction leaves it out"),
        (["a bbb"], "--correct asks with the samples of its shards; leave the query out"),
        (["--correction", "qb_norm"], "qb_norm"),
        (["--by", "points"], "the shards of the bank have no row of points"),
    ],
)
def test_what_a_correction_refuses(place, capsys, options, says):
    code, _, err = run(
        capsys, "search", place / "m", *options, "--of", "image", "--correct", place / "train.tar", *trust
    )
    assert code in (1, 2)
    assert says in err


def test_names():
    assert name_shift("text", "image", "objective") == NAME


def test_a_method_without_a_correction_is_refused(place, capsys):
    code, _, err = run(capsys, "search", place / "m", "a bbb", "--of", "image", "--correction", "sinkhorn", *trust)
    assert code == 2
    assert "--correction sinkhorn is of --correct SHARDS" in err
