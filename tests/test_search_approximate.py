"""Approximate search against exact search: order, filters, holes, deletes, stale, damaged and killed files."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from few import few

import align
from align.search import Approximate
from align.search.ann import local, make
from align.search.ann.attach import Following, attach, drop_stale, remove_backend
from align.search.ann.kinds import KINDS
from align.search.ann.make import make_backend
from align.search.ann.measure import find_lost, keep_measured, measure_recall
from align.search.ann.notes import path_of_notes, read_notes
from align.search.item import Item
from align.search.local import LocalIndex
from align.search.made import Made
from align.search.shift import Shift
from align.search.where import parse
from align.values import Rows

D, N = 16, 1500


def draw(n, seed):
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed))


def item(i):
    return Item(f"k{i:04d}", {"shard": "/s.tar", "key": f"k{i:04d}"}, (), None, {"a": i % 10, "b": i})


def fill(folder):
    """Images near 30 centres, with holes, three rows of some and copies of others. Texts lie apart from them."""
    middle = draw(30, 1)[torch.arange(N) % 30]
    images, owner = [], []
    for i in range(N):
        if i % 7 == 3:
            continue
        several = 3 if i % 5 == 0 else 1
        images.append(middle[i] + 0.5 * draw(several, 100 + i) if i % 11 else middle[i][None])
        owner += [i] * len(images[-1])
    texts = middle + 0.5 * draw(N, 2) + 3 * draw(1, 3)
    with LocalIndex.create(folder) as index, index.change() as change:
        rows = {"image": Rows(torch.cat(images), torch.tensor(owner)), "text": Rows(texts, torch.arange(N))}
        change.add(rows, [item(i) for i in range(N)])


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Index folders by the kind of their approximate search."""
    folder = tmp_path_factory.mktemp("approximate")
    torch.set_num_threads(1)
    for name in KINDS:
        fill(folder / name)
        made, left = make_backend(folder / name, name)
        assert [(one.of, one.rows) for one in made] == [("image", int(made[0].rows)), ("text", N)]
        assert left == []
    return folder


@pytest.fixture
def copy(source, tmp_path):
    """Returns a copy of an index that may be changed."""
    import shutil

    def run(name="hnsw"):
        return Path(shutil.copytree(source / name, tmp_path / name))

    return run


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Filters that let few samples through are not searched exactly, and few samples are re-scored."""
    monkeypatch.setattr("align.search.made.FEW", 20)
    for name, kind in KINDS.items():
        monkeypatch.setitem(KINDS, name, kind._replace(rerank=60))


def queries(index, n=20):
    return torch.cat([index.unit_rows("text", torch.arange(1, n + 1))[0], draw(n, 5)])


def test_the_order_among_proposals_is_the_exact_one(source):
    for name in KINDS:
        with LocalIndex.open(source / name) as exact:
            index = attach(exact)
            asked = queries(exact)
            scores, samples = index.search(asked, "image", 10)
            assert index.list_notes() == [f"approximate ({name}), best 60 re-scored exactly"]
            every_score, every = exact.search(asked, "image", exact.count("image"))
            found = 0
            for i in range(len(asked)):
                place = {number: j for j, number in enumerate(every[i].tolist())}
                order = [place[number] for number in samples[i].tolist()]
                assert order == sorted(set(order))
                assert torch.equal(scores[i], every_score[i, order])
                found += sum(j < 10 for j in order)
            assert found >= 0.7 * 10 * len(asked), name


@pytest.mark.parametrize("where", [None, {"a": {"lt": 4}}, {"b": {"gte": 700}}], ids=str)
def test_with_enough_effort_the_answer_is_the_exact_one(source, where):
    """Also with filters, holes, several rows of a sample, and ties."""
    tree = None if where is None else parse(where)
    for name in KINDS:
        with LocalIndex.open(source / name) as exact:
            notes = read_notes(source / name)
            backend = local.LocalBackend(source / name, name, effort=8)
            made = Made(backend, 200, notes.modalities)
            index = Approximate(exact, lambda made=made: made)
            asked = queries(exact)
            for k in (1, 10):
                expected, got = exact.search(asked, "image", k, tree), index.search(asked, "image", k, tree)
                assert index.list_notes() == [f"approximate ({name}), best 200 re-scored exactly"]
                if name == "binary":  # one bit of each of 16 numbers says little
                    assert float((got[1] == expected[1]).float().mean()) > 0.8
                else:
                    assert torch.equal(got[0], expected[0]), name
                    assert torch.equal(got[1], expected[1]), name


def test_a_finder_gives_samples_once_and_only_those_that_pass(source):
    for name in KINDS:
        with LocalIndex.open(source / name) as exact:
            finder, _ = attach(exact).open_finder("image")
            among = exact.numbers("image")[100:400:3]
            for n, passed in ((40, None), (2000, None), (40, among), (200, among)):
                found = finder.propose(3 * draw(4, 9), n, passed)
                assert found.shape == (4, n)
                allowed = set((exact.numbers("image") if passed is None else passed).tolist())
                for row in found.tolist():
                    kept = [number for number in row if number >= 0]
                    assert len(set(kept)) == len(kept) > 0
                    assert set(kept) <= allowed
                    assert row == kept + [-1] * (n - len(kept))
            if name == "hnsw":  # its scores are those of the rows: the best sample comes first
                query = draw(1, 9)
                found = finder.propose(query, 40)[0].tolist()
                scores, samples = exact.search(query, "image", exact.count("image"))
                by_number = dict(zip(samples[0].tolist(), scores[0].tolist(), strict=True))
                order = [by_number[number] for number in found if number >= 0]
                assert order == pytest.approx(sorted(order, reverse=True), abs=1e-5)


def test_few_samples_lengths_and_corrections_are_searched_exactly(source):
    with LocalIndex.open(source / "hnsw") as exact:
        index, asked = attach(exact), queries(exact)
        few = parse({"b": {"lt": 140}})
        assert torch.equal(index.search(asked, "image", 3, few)[1], exact.search(asked, "image", 3, few)[1])
        assert index.list_notes() == ["exact: the filter lets 120 of 1286 samples through"]
        got = index.search(asked, "image", 3, scaled=True)
        assert torch.equal(got[0], exact.search(asked, "image", 3, scaled=True)[0])
        assert "rows count with their length" in index.list_notes()[0]
        numbers = exact.unit_rows("image", exact.numbers("image")).sample
        shift = Shift(numbers, draw(len(numbers), 3)[:, 0], "nnn")
        got = index.search(asked, "image", 3, shift=shift)
        assert torch.equal(got[1], exact.search(asked, "image", 3, shift=shift)[1])
        assert "correction for hubs" in index.list_notes()[0]
        assert torch.equal(index.search(asked, "image", 700)[1], exact.search(asked, "image", 700)[1])
        assert index.list_notes() == []
        for wrong in ({"query": draw(1, 1)[:, :5]}, {"of": "video"}, {"k": 0}):
            with pytest.raises(ValueError, match=r"\(q, 16\)|no 'video'|at least 1"):
                index.search(**{"query": asked, "of": "image", "k": 3, **wrong})


class Planned:
    """A finder that gives what the test says."""

    name = "planned"

    def __init__(self, plan):
        self.plan, self.asked = plan, []

    def open(self, of, facts):
        return self

    def propose(self, query, n, among=None):
        self.asked.append((len(query), n))
        return torch.stack([F.pad(self.plan[:n], (0, n - len(self.plan[:n])), value=-1) for _ in query])


def planned(exact, plan, rerank=30):
    backend = Planned(plan)
    made = Made(backend, rerank, {"image": {"mark": exact.mark("image")}})
    return Approximate(exact, lambda: made), backend


def test_the_search_goes_deeper_until_k_samples_are_found(source):
    with LocalIndex.open(source / "hnsw") as exact:
        numbers = exact.numbers("image")
        # the first proposals are of samples that are not there, or do not pass
        index, backend = planned(exact, torch.cat([torch.arange(90_000, 90_100), numbers[:50]]))
        scores, samples = index.search(queries(exact)[:2], "image", 10)
        assert backend.asked == [(2, 30), (2, 120)]
        assert set(samples.flatten().tolist()) <= set(numbers[:20].tolist())
        assert index.list_notes() == ["approximate (planned), best 120 re-scored exactly"]
        assert bool((scores[:, 1:] <= scores[:, :-1]).all())
        where = parse({"a": 1})
        index, _ = planned(exact, numbers)
        passed = set(exact.numbers("image", where).tolist())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("align.search.made.RARE", 0)
            assert set(index.search(queries(exact)[:2], "image", 10, where)[1].flatten().tolist()) <= passed
        assert index.list_notes()[0].startswith("approximate")


def test_a_finder_that_has_no_more_leaves_the_answer_to_the_exact_rows(source):
    with LocalIndex.open(source / "hnsw") as exact:
        index, backend = planned(exact, exact.numbers("image")[:5])
        expected = exact.search(queries(exact), "image", 10)
        assert torch.equal(index.search(queries(exact), "image", 10)[1], expected[1])
        assert backend.asked[-1][1] == exact.count("image")
        assert index.list_notes() == []


def test_an_unavailable_backend_is_no_silent_exact_search(source):
    from align.search.finder import Unavailable

    with LocalIndex.open(source / "hnsw") as exact:
        index, backend = planned(exact, exact.numbers("image"))
        backend.propose = lambda *_: (_ for _ in ()).throw(Unavailable("no answer from host"))
        with pytest.raises(ConnectionError, match="no answer from host"):
            index.search(queries(exact), "image", 3)


@pytest.mark.parametrize("change", ["add", "delete", "compact"])
def test_a_change_makes_it_stale_and_the_answer_exact(copy, change):
    folder = copy()
    with LocalIndex.open(folder, write=True) as exact:
        index, asked = attach(exact), queries(exact)
        index.search(asked, "text", 3)
        assert index.list_notes()[0].startswith("approximate")
        best = exact.search(asked[:1], "text", 1)[1]
        if change == "add":
            index.add("text", asked[:1], torch.tensor([0]), [item(9000)])
        else:
            index.delete([exact.items(best[0].tolist())[0].key])
            if change == "compact":
                exact.compact()
        got = index.search(asked, "text", 3)
        assert torch.equal(got[1], exact.search(asked, "text", 3)[1])
        assert (int(got[1][0, 0]) == int(best)) == (change == "add")  # the copy of a row comes after it
        remedy = f"make it again: align index backend {folder} hnsw"
        assert index.list_notes() == [f"exact: the hnsw of text is stale; {remedy}"]
        kept = ["image"] if change == "add" else []
        lines = drop_stale(folder)
        assert lines == [f"the hnsw of {m} is stale; {remedy}" for m in ("image", "text") if m not in kept]
        notes = read_notes(folder)
        assert list(notes.modalities if notes else ()) == kept
        assert len(list((folder / "ann").glob("*.faiss"))) == len(kept)
        assert drop_stale(folder) == []
        assert torch.equal(index.search(asked, "text", 3)[1], got[1])
        assert index.list_notes() == []
        index.search(asked, "image", 3)
        assert index.list_notes() == (["approximate (hnsw), best 60 re-scored exactly"] if kept else [])
        make_backend(folder, "int8")
        assert torch.equal(index.search(asked, "text", 1)[1], exact.search(asked, "text", 1)[1])
        assert index.list_notes() == ["approximate (int8), best 60 re-scored exactly"]


def test_a_change_that_is_of_no_rows_leaves_it(copy):
    folder = copy()
    with LocalIndex.open(folder, write=True) as index, index.change() as change:
        change.about(threshold={"x": 1})
    assert drop_stale(folder) == []


def test_a_change_meanwhile_is_seen(copy):
    with LocalIndex.open(copy(), write=True) as exact:
        (index, backend), asked = planned(exact, exact.numbers("image")), queries(exact)
        inner = backend.propose

        def propose(query, n, among=None):
            exact.delete(["k0001"])
            return inner(query, n, among)

        backend.propose = propose
        got = index.search(asked, "image", 3)
        assert torch.equal(got[1], exact.search(asked, "image", 3)[1])
        assert index.list_notes() == ["exact: image changed meanwhile"]


def test_a_change_while_it_is_made_is_refused(copy, monkeypatch):
    folder = copy()
    before = path_of_notes(folder).read_bytes()
    inner = make.read_blocks

    def read(index, of):
        yield from inner(index, of)
        with LocalIndex.open(folder, write=True) as other:
            other.delete(["k0001"])

    monkeypatch.setattr(make, "read_blocks", read)
    with pytest.raises(ValueError, match=r"changed while its int8 was made; try again"):
        make_backend(folder, "int8")
    assert path_of_notes(folder).read_bytes() == before


@pytest.mark.parametrize("name", list(KINDS))
def test_one_thread_makes_the_same_file(copy, name):
    folder = copy(name)
    sums = [facts["files"]["faiss"]["sha256"] for facts in read_notes(folder).modalities.values()]
    make_backend(folder, name)
    assert sums == [facts["files"]["faiss"]["sha256"] for facts in read_notes(folder).modalities.values()]


@pytest.mark.parametrize(
    "at", few(["align.search.ann.make.write_notes", "faiss.write_index", "align.files.sync_folder"], 1)
)
def test_a_killed_making_leaves_the_old_one(copy, at):
    folder = copy()
    module, name = at.rsplit(".", 1)
    code = f"""
import os, torch, {module} as place
from pathlib import Path
from align.search.ann.make import make_backend
torch.set_num_threads(1)
count, inner = [], place.{name}
def kill(*args):
    count.append(1)
    if len(count) == {1 if "notes" in at else 2}:
        os._exit(9)
    return inner(*args)
place.{name} = kill
make_backend(Path({str(folder)!r}), "int8")
"""
    files = set((folder / "ann").iterdir())
    before = path_of_notes(folder).read_bytes()
    root = Path(align.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 9
    assert path_of_notes(folder).read_bytes() == before
    assert set((folder / "ann").iterdir()) > files
    with LocalIndex.open(folder) as exact:
        index = attach(exact)
        assert torch.equal(index.search(draw(1, 4), "text", 1)[1], exact.search(draw(1, 4), "text", 1)[1])
        assert index.list_notes() == ["approximate (hnsw), best 60 re-scored exactly"]
    make_backend(folder, "int8")
    assert len(list((folder / "ann").iterdir())) == 6  # of two modalities, the notes and the name


def test_a_damaged_file_is_named(copy):
    folder = copy()
    path = next((folder / "ann").glob("*.faiss"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with LocalIndex.open(folder) as exact, pytest.raises(ValueError, match=r"\.faiss is damaged.*make it again"):
        for of in ("image", "text"):
            attach(exact).search(draw(1, 1), of, 3)
    path_of_notes(folder).write_text("{")
    with LocalIndex.open(folder) as exact, pytest.raises(ValueError, match=r"damaged.*align index backend"):
        attach(exact).search(draw(1, 1), "image", 3)
    assert "damaged" in drop_stale(folder)[0]
    path_of_notes(folder).write_text('{"schema": 9}')
    with pytest.raises(ValueError, match="reads up to 1: upgrade align"):
        Following(folder).read()
    assert remove_backend(folder) == ""
    assert [path.name for path in (folder / "ann").iterdir()] == ["id"]


def test_rows_of_another_width_are_refused(source):
    facts = dict(read_notes(source / "hnsw").modalities["text"])
    with pytest.raises(ValueError, match=f"has {N} rows of 16 numbers; make it again"):
        local.LocalBackend(source / "hnsw", "hnsw").open("text", {**facts, "dim": 8})
    with pytest.raises(ValueError, match=r"name a file '\.\./x'"):
        local.LocalBackend(source / "hnsw", "hnsw").open("text", {**facts, "file": "../x"})


def test_a_modality_of_few_rows_is_left_out(tmp_path):
    with LocalIndex.create(tmp_path / "i") as index:
        index.add("image", draw(300, 1), torch.arange(300), [item(i) for i in range(300)])
        index.add("text", draw(40, 1), torch.arange(40), [item(i) for i in range(40)])
    made, left = make_backend(tmp_path / "i", "ivfpq")
    assert [one.of for one in made] == ["image"]
    assert left == ["ivfpq needs 256 rows; text has 40; exact search answers there"]
    with LocalIndex.create(tmp_path / "j") as index:
        index.add("text", draw(40, 1), torch.arange(40), [item(i) for i in range(40)])
    with pytest.raises(ValueError, match="ivfpq needs 256 rows"):
        make_backend(tmp_path / "j", "ivfpq")
    assert read_notes(tmp_path / "j") is None


def test_recall_is_a_count_of_what_is_missing(source):
    with LocalIndex.open(source / "hnsw") as exact:
        numbers = exact.numbers("image")
        index, _ = planned(exact, numbers[::2], rerank=len(numbers) // 2 - 10)
        got = measure_recall(index, "text", "image", queries=30)
        drawn = exact.numbers("text")[torch.randperm(N, generator=torch.Generator().manual_seed(2))[:30]].sort().values
        shares, known = [], set(numbers[::2][: len(numbers) // 2 - 10].tolist())
        for query in exact.unit_rows("text", drawn)[0]:
            best = exact.search(query[None], "image", 10)[1][0].tolist()
            shares.append(sum(number in known for number in best) / 10)
        assert got.queries == 30
        assert got.recall == pytest.approx(sum(shares) / 30, abs=0.02)  # equal scores count as found
        assert got.worst == min(shares)
        assert (got.by, got.of) == ("text", "image")


def test_rows_that_do_not_find_themselves_are_named(source):
    with LocalIndex.open(source / "hnsw") as exact:
        index = attach(exact)
        assert find_lost(index, "text").lost == []
        selves = find_lost(index, "image")
        assert (selves.lost, selves.tried) == ([], exact.modalities["image"])
        finder = index.open_finder("image")[0]
        gone = torch.tensor([9, 500])

        def hide(query, n):
            found = finder.propose(query, n)
            return torch.where(torch.isin(found, gone), -1, found)

        index.open_finder = lambda of: (SimpleNamespace(propose=hide), 60)
        assert find_lost(index, "image").lost == [9, 500]


def test_the_measured_numbers_stay_until_the_rows_change(copy):
    folder = copy()
    with LocalIndex.open(folder) as exact:
        index = attach(exact)
        recall, selves = measure_recall(index, "text", "image", queries=5), find_lost(index, "image", most=50)
        assert recall.proposed == 5
        keep_measured(folder, Following(folder).read(), [recall], [selves])
    measured = read_notes(folder).measured
    assert measured["image"]["tried"] >= 50
    assert 0.9 < measured["image"]["recall"]["text"] <= 1
    make_backend(folder, "hnsw")
    assert read_notes(folder).measured == {}
