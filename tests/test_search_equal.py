"""One answer of plain loops, an index in memory and one on disk, after adds, deletes, compaction and reopening."""

from __future__ import annotations

import itertools
import shutil

import pytest
import tiny_index
import tiny_space

from align.data import Shards
from align.embedding import embed_shards
from align.evaluation.blocks import score_blocks
from align.scoring import choose
from align.search.item import Item
from align.search.local import LocalIndex
from align.search.matching import matches
from align.search.memory import MemoryIndex
from align.search.searcher import Searcher
from align.search.where import parse

QUERIES = {
    "text": [("text", 1.0)],
    "weights": [("text", 1.5), ("audio", 0.5)],
    "minus": [("text", 1.0), ("text", -0.7), ("audio", 1.0)],
    "lone minus": [("text", 1.0), ("audio", -1.0)],
    "all": [("text", 1.0), ("image", 1.0), ("audio", 1.0), ("points", 1.0)],
}
FILTERS = [
    None,
    {"label": 1},
    {"not": {"label": {"in": [0, 3]}}},
    {"any": [{"has": "audio"}, {"caption": {"contains": "red"}}]},
    {"all": [{"label": {"gte": 2}}, {"key": {"ne": "k007"}}]},
]


def answer(searcher, parts, vectors, of, how, where):
    found = searcher.find(parts, vectors, of, 300, how=how, where=where)
    return found.how, [(hit.item.key, hit.score) for hit in found.hits]


def check(searchers, table, unit, turn):
    """Every query and rule, each with a filter, gives the plain loop's order in each index. turn: moves the filters."""
    for (name, given), of in itertools.product(QUERIES.items(), ("image", "text")):
        parts, vectors = tiny_index.query(given, unit=unit)
        for how in (None, "cosine", "mip"):
            if how == "mip" and name == "lone minus":
                continue
            where, turn = FILTERS[turn % len(FILTERS)], turn + 1
            tree = None if where is None else parse(where)
            found = [answer(searcher, parts, vectors, of, how, where) for searcher in searchers]
            terms = searchers[0].model.terms
            terms = [t for t in terms if name != "lone minus" or len(t.modalities) == 2]  # the others do not read it
            rule = found[0][0]
            rows = {
                key: rows for key, (item, have, rows) in table[of].items() if tree is None or matches(tree, item, have)
            }
            order = tiny_index.by_loop({of: rows}, terms, parts, of, rule, unit)
            for got_rule, got in found:
                assert got_rule == rule
                assert [key for key, _ in got] == [key for key, _ in order], (name, of, where, how)
                assert [x for _, x in got] == pytest.approx([x for _, x in order], rel=1e-5, abs=2e-5)


def known(index, made):
    """modality -> key -> (item, its modalities, its rows) of the samples that are in the index."""
    numbers = index.numbers().tolist()
    items = {item.key: item for item in index.items(numbers)}
    have = {key: [m for m in made if key in made[m]] for key in items}
    return {
        m: {key: (items[key], have[key], rows[key]) for key in sorted(items) if key in rows} for m, rows in made.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("terms", "unit"),
    [("pairwise", True), *(pytest.param("all", unit, marks=pytest.mark.sweep) for unit in (True, False))],
)
def test_memory_disk_and_loop_agree(terms, unit, tmp_path):
    model = tiny_index.model(terms, unit)
    disk, memory = LocalIndex.create(tmp_path / "i"), MemoryIndex()
    made: dict = {}

    def add(start, n):
        for index in (disk, memory):
            for m, rows in tiny_index.fill(index, n, unit, start).items():
                made[m] = rows | made.get(m, {})  # what is there stays

    def agree(index):
        assert index.numbers().tolist() == memory.numbers().tolist()
        assert dict(index.modalities) == dict(memory.modalities)
        check([Searcher(memory, model), Searcher(index, model)], known(memory, made), unit, turn=len(index.numbers()))

    add(0, 40)
    add(20, 40)  # twenty of these are there
    agree(disk)
    gone = [f"k{i:03d}" for i in range(0, 60, 7)]
    assert disk.delete(gone) == memory.delete(gone) == len(gone)
    agree(disk)
    disk.compact()
    agree(disk)
    disk.close()
    shutil.move(tmp_path / "i", tmp_path / "elsewhere")
    with LocalIndex.open(tmp_path / "elsewhere", write=True) as disk:
        add(60, 30)
        agree(disk)
    with LocalIndex.open(tmp_path / "elsewhere") as disk:
        agree(disk)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    tiny_space.write_tar(folder / "test-000000.tar", tiny_space.world(noise=0.6))
    return Shards(str(folder / "test-*.tar"), shuffle=False)


@pytest.mark.parametrize("kinds", [("pairwise",), ("symile",), ("pairwise", "symile"), ()])
def test_the_order_is_that_of_an_evaluation(world, kinds, tmp_path):
    """Scores as ``align evaluate`` computes them, of the best row of each sample."""
    model = tiny_space.model(*kinds)
    table = embed_shards(model, world)
    items = [Item(key, {"shard": "/s.tar", "key": key}) for key in table.ids]
    with LocalIndex.create(tmp_path / "i") as index:
        for m, rows in table.items():
            index.add(m, rows.values, rows.sample, items)
        searcher = Searcher(index, model)
        for asked, of in (
            (("text",), "image"),
            (("audio",), "text"),
            (("audio", "text"), "image"),
            (("image",), "image"),
        ):
            query = {m: table[m].values[7:8] for m in asked}
            how = choose(model.terms, asked, of)
            scores = next(iter(score_blocks(query, table[of].values, how, of=of, terms=model.terms)))[1][0]
            best: dict[str, float] = {}
            for value, number in zip(scores.tolist(), table[of].sample.tolist(), strict=True):
                best[table.ids[number]] = max(best.get(table.ids[number], -1e9), value)
            order = sorted(best, key=lambda key: (-best[key], key))
            found = searcher.search({m: x[0] for m, x in query.items()}, of, 99)
            assert found.how == how
            assert [hit.item.key for hit in found.hits] == order


def test_a_sample_deleted_meanwhile_is_not_found(tmp_path, monkeypatch):
    """A writer deletes the best sample between the search and the reading of its item."""
    with LocalIndex.create(tmp_path / "i") as index:
        tiny_index.fill(index, 30)
        searcher = Searcher(index, tiny_index.model("none"))
        parts, vectors = tiny_index.query([("text", 1.0)])
        first = searcher.find(parts, vectors, "image", 5).hits
        items, calls = index.items, []

        def late(numbers):
            calls.append(numbers)
            if len(calls) == 1:
                index.delete([first[0].item.key])
            return items(numbers)

        monkeypatch.setattr(index, "items", late)
        found = searcher.find(parts, vectors, "image", 4).hits
        assert [hit.item.key for hit in found] == [hit.item.key for hit in first[1:]]
        assert len(calls) == 2
