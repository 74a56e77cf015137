"""The index in a folder against a plain loop: added to, deleted from, compacted and opened again."""

import os
import random
from pathlib import Path

import pytest
import torch

from align.search.index import Index
from align.search.item import Item
from align.search.local import LocalIndex
from align.search.where import parse
from align.values import Rows

D = 5


def item(i, shard="s"):
    return Item(f"k{i}", {"shard": f"/{shard}.tar", "key": f"k{i}"}, [f"word{i} dog"], ["x", "y"][i % 2], {"n": i % 5})


def draw_rows(seed, sample):
    sample = torch.as_tensor(sample, dtype=torch.long)
    return Rows(torch.randn(len(sample), D, generator=torch.Generator().manual_seed(seed)), sample)


class Loop:
    """The same index as lists: number -> item, and (modality, number, row) as they were added."""

    def __init__(self):
        self.items, self.rows, self.next = {}, [], 1

    def add(self, rows, items):
        numbers = []
        for one in items:
            same = [n for n, old in self.items.items() if (old.key, old.place) == (one.key, one.place)]
            if not same:
                self.items[self.next] = one
                same, self.next = [self.next], self.next + 1
            numbers.append(same[0])
        for m, part in rows.items():
            there = {n for of, n, _ in self.rows if of == m}
            for value, place in zip(part.values, part.sample.tolist(), strict=True):
                if place >= 0 and numbers[place] not in there and numbers.index(numbers[place]) == place:
                    self.rows.append((m, numbers[place], value))
        return numbers

    def remove(self, numbers):
        for number in numbers:
            self.items.pop(number, None)
        self.rows = [row for row in self.rows if row[1] in self.items]

    def search(self, query, of, passed, scaled):
        best = {}
        for m, number, value in self.rows:
            if m == of and passed(self.items[number]):
                row = value.double() if scaled else value.double() / value.double().norm()
                best[number] = max(best.get(number, -9e9), float(query.double() @ row))
        return sorted(((-score, number) for number, score in best.items()))

    def equals(self, index):
        """Compare everything that an index answers."""
        assert index.count() == len(self.items)
        assert index.numbers().tolist() == sorted(self.items)
        assert index.items(sorted(self.items)) == [self.items[n] for n in sorted(self.items)]
        for m in {m for m, _, _ in self.rows}:
            mine = [(n, value) for of, n, value in self.rows if of == m]
            assert index.modalities[m] == len(mine)
            assert index.count(m) == len({n for n, _ in mine})
            got = index.rows(m, index.numbers(m))
            expected = sorted(mine, key=lambda row: row[0])
            assert got.sample.tolist() == [n for n, _ in expected]
            assert torch.allclose(got.values, torch.stack([value for _, value in expected]), atol=1e-6)
            for seed, scaled in ((1, False), (2, True)):
                query = draw_rows(seed, [0, 0]).values
                for tree in (None, {"n": {"lt": 3}}, {"not": {"label": "x"}}):
                    where = None if tree is None else parse(tree)

                    def passed(one, tree=tree):
                        return not tree or (one.json["n"] < 3 if "n" in tree else one.label != "x")

                    scores, samples = index.search(query, m, 7, where, scaled=scaled)
                    for q in range(2):
                        loop = self.search(query[q], m, passed, scaled)[:7]
                        assert samples[q].tolist() == [n for _, n in loop]
                        assert scores[q].tolist() == pytest.approx([-s for s, _ in loop], abs=1e-5)
            found = index.find_text("dog", 1000)[1].tolist()
            assert sorted(found) == sorted(self.items)
        assert index.check() == []


@pytest.mark.parametrize("seed", range(3))
def test_random_changes_are_the_plain_loop(tmp_path, seed, monkeypatch):
    monkeypatch.setattr("align.search.local.growing.ROWS", 16)  # so that a few dozen rows are several segments
    draw, loop = random.Random(seed), Loop()
    index = LocalIndex.create(tmp_path / "index", {"model": {"source": "here", "sha256": "f"}})
    assert isinstance(index, Index)
    for step in range(25):
        does = draw.choice(["add", "add", "add", "remove", "delete", "compact", "open", "fail"])
        if does in ("add", "fail"):
            numbers = draw.sample(range(60), draw.randint(1, 12))
            items = [item(i, draw.choice("st")) for i in numbers] + [item(numbers[0])]
            rows = {}
            for m in draw.sample(["image", "audio", "text"], draw.randint(0, 3)):
                sample = [draw.randint(-1, len(items) - 1) for _ in range(draw.randint(0, 20))]
                rows[m] = draw_rows(100 * seed + step, sample)
            if does == "fail":
                with pytest.raises(ZeroDivisionError), index.change() as change:
                    change.add(rows, items)
                    change.remove(list(loop.items)[:3])
                    change.source("s", 1)
                    _ = 1 / 0
            else:
                with index.change() as change:
                    half = len(items) // 2
                    assert change.add({}, items[:half]).tolist() == loop.add({}, items[:half])
                    assert change.add(rows, items).tolist() == loop.add(rows, items)
                    assert change.add(rows, items).tolist() == loop.add({}, items)  # nothing comes twice
        elif does == "remove":
            gone = draw.sample(sorted(loop.items), min(len(loop.items), 5))
            with index.change() as change:
                assert change.remove([*gone, 10**6]) == len(gone)
            loop.remove(gone)
        elif does == "delete":
            keys = [f"k{draw.randint(0, 80)}" for _ in range(3)]
            gone = [n for n, one in loop.items.items() if one.key in keys]
            assert index.delete(keys) == len(gone)
            loop.remove(gone)
        elif does == "compact":
            index.compact()
            stored = sum(f.stat().st_size for f in (tmp_path / "index" / "segments").iterdir())
            assert stored <= 512 * 40 + len(loop.rows) * (4 * D + 12)
        else:
            index.close()
            index = LocalIndex.open(tmp_path / "index", write=True)
        loop.equals(index)
    assert index.sources() == {}
    assert index.about["model"] == {"source": "here", "sha256": "f"}
    index.close()
    assert sorted(os.listdir(tmp_path / "index")) == ["index.json", "index.sqlite", "segments"]


def test_numbers_are_never_given_again(tmp_path):
    with LocalIndex.create(tmp_path / "index") as index:
        index.add("image", *draw_rows(1, [0, 1, 2])[:2], [item(i) for i in range(3)])
        index.delete(["k2", "k1"])
        index.compact()
    with LocalIndex.open(tmp_path / "index", write=True) as index:
        index.add("image", *draw_rows(2, [0, 1])[:2], [item(1), item(7)])
        assert index.numbers().tolist() == [1, 4, 5]
        with pytest.raises(KeyError, match="no sample 2 in the index"):
            index.items([1, 2])
        index.delete(["k7"])
        assert index.rows("image", [-1, 0, 1, 5, 999]).sample.tolist() == [1]  # a number that is not there has no row


def test_equal_scores_stand_in_the_order_of_numbers_across_segments(tmp_path):
    ones = torch.ones(4, D)
    with LocalIndex.create(tmp_path / "index") as index:
        index.add("audio", *draw_rows(1, [0, 1, 2, 3])[:2], [item(i) for i in range(4)])
        index.add("image", ones[:2], torch.tensor([0, 1]), [item(3), item(1)])
        index.add("image", ones[:2], torch.tensor([0, 1]), [item(2), item(0)])
        assert index.search(ones[:1], "image", 3)[1].tolist() == [[1, 2, 3]]
        assert index.search(ones[:1], "image", 9)[1].tolist() == [[1, 2, 3, 4]]
        index.delete(["k1"])
        assert index.search(ones[:1], "image", 2)[1].tolist() == [[1, 3]]


def test_rows_that_come_in_the_other_order_are_found(tmp_path):
    rows = draw_rows(4, [0, 1, 2, 3])
    with LocalIndex.create(tmp_path / "index") as index:
        with index.change() as change:
            change.add({}, [item(i) for i in range(8)])
            for start in (6, 0, 4, 2):
                change.add({"image": Rows(rows.values[:2], torch.arange(2))}, [item(start), item(start + 1)])
        assert index.rows("image", range(1, 9)).sample.tolist() == list(range(1, 9))
        for number in range(1, 9):
            assert index.rows("image", [number]).sample.tolist() == [number]
        assert index.search(rows.values[:1], "image", 4)[1].tolist() == [[1, 3, 5, 7]]
        assert len(list((tmp_path / "index" / "segments").iterdir())) == 3  # the rows of a segment ascend
        assert index.delete(["k0"]) == 1
        assert index.modalities["image"] == 7
        assert index.compact() == 1
        assert len(list((tmp_path / "index" / "segments").iterdir())) == 1
        assert index.search(rows.values[:1], "image", 3)[1].tolist() == [[3, 5, 7]]


def test_half_precision_halves_the_segments(tmp_path):
    rows = draw_rows(3, range(400))
    sizes = {}
    for dtype in ("float32", "float16"):
        with LocalIndex.create(tmp_path / dtype, {"dtype": dtype}) as index:
            index.add("image", rows.values, rows.sample, [item(i) for i in range(400)])
            sizes[dtype] = next((tmp_path / dtype / "segments").iterdir()).stat().st_size
            got = index.rows("image", range(1, 401)).values
            assert torch.allclose(got, rows.values, atol=1e-5 if dtype == "float32" else 5e-3)
            index.delete(["k7"])
            index.compact()
            assert index.search(rows.values[:1], "image", 1)[1].tolist() == [[1]]
    assert sizes["float32"] - sizes["float16"] == 400 * D * 2


def test_compaction_gives_the_space_back(tmp_path):
    with LocalIndex.create(tmp_path / "index") as index:
        many = [
            Item(f"k{i}", {"shard": "s", "key": f"k{i}"}, [f"a{i} b{i} 猫{i}"], None, {f"n{i % 9}": i})
            for i in range(900)
        ]
        index.add("image", torch.ones(900, D), torch.arange(900), many)
        path = tmp_path / "index" / "index.sqlite"
        full = path.stat().st_size
        index.delete([f"k{i}" for i in range(10, 900)])
        index.delete(["k8"])
        assert index.compact() == 891
        assert path.stat().st_size < full / 2
        assert index.count() == 9
        assert index.check() == []
        with pytest.raises(ValueError, match="no item has the key 'n8'"):
            index.count(None, parse({"n8": 1}))


def test_facets_count_samples(tmp_path):
    with LocalIndex.create(tmp_path / "index") as index:
        jsons = [{"n": 1, "t": ["a", "a", "b"]}, {"n": 2.5, "f": True, "t": "b"}, {"n": 2.5, "deep": {"x": "é"}}, {}]
        items = [
            Item(f"d/{i}", {"file": f"/p/d/{i}.x"}, [], [None, {"shape": "cube"}][i % 2], one)
            for i, one in enumerate(jsons)
        ]
        with index.change() as change:
            change.add({"image": draw_rows(1, [1, 2])}, items)
        facets = {f.key: f for f in index.facets()}
        assert {k: (f.kind, list(f.values), f.distinct) for k, f in facets.items()} == {
            "deep.x": ("text", [("é", 1)], 1),
            "f": ("flag", [(True, 1)], 1),
            "folder": ("text", [("d", 4)], 1),
            "label.shape": ("text", [("cube", 2)], 1),
            "n": ("number", [(2.5, 2), (1, 1)], 2),
            "t": ("list", [("b", 2), ("a", 1)], 2),
        }
        assert (facets["n"].low, facets["n"].high) == (1, 2.5)
        assert facets["f"].values[0][0] is True
        some = {f.key: list(f.values) for f in index.facets(parse({"has": "image"}), values=1)}
        assert some["n"] == [(2.5, 2)]
        assert some["t"] == [("b", 1)]
        index.delete(["d/1", "d/2"])
        assert {f.key for f in index.facets()} == {"folder", "label.shape", "n", "t"}
        long = [Item(f"e/{n}", {"file": f"/p/e/{n}.x"}, [], None, {"long": "x" * n}) for n in (200, 201)]
        with index.change() as change:
            change.add({"image": draw_rows(1, [0, 1])}, long)
        found = next(f for f in index.facets() if f.key == "long")
        assert (list(found.values), found.distinct) == ([("x" * 200, 1)], 2)  # a longer value is counted, not listed


def test_sources_and_about_are_part_of_the_change(tmp_path):
    with LocalIndex.create(tmp_path / "index", {"parts": {"a": 1}}) as index:
        with index.change() as change:
            change.source("/s.tar", {"size": 3, "sha256": "ab"})
            change.source("/caf\udce9.tar", [1])
            change.about(threshold={"text_to_image": 0.2}, parts=None)
        assert index.sources() == {"/caf\\udce9.tar": [1], "/s.tar": {"size": 3, "sha256": "ab"}}
        with index.change() as change:
            change.source("/s.tar", None)
        assert list(index.sources()) == ["/caf\\udce9.tar"]
        assert index.about == {"threshold": {"text_to_image": 0.2}}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            lambda: Rows(torch.ones(1, D + 1), torch.tensor([0])),
            f"has rows of {D} numbers; these of image have {D + 1}",
        ),
        (lambda: Rows(torch.full((1, D), float("nan")), torch.tensor([0])), "1 rows of image are not finite"),
        (lambda: Rows(torch.full((1, D), 1e30), torch.tensor([0])), "not finite, or longer than float32"),
        (lambda: Rows(torch.ones(1, D), torch.tensor([1])), "rows of image name place 1 of 1 items"),
        (lambda: Rows(torch.ones(2, D), torch.tensor([0])), "are a tensor"),
    ],
)
def test_bad_rows_are_refused_and_nothing_is_kept(tmp_path, rows, said):
    with LocalIndex.create(tmp_path / "index", {"dim": D}) as index:
        with pytest.raises(ValueError, match=said), index.change() as change:
            change.add({"audio": Rows(torch.ones(1, D), torch.tensor([0]))}, [item(0)])
            change.add({"image": rows()}, [item(0)])
        assert index.count() == 0
        assert list((tmp_path / "index" / "segments").iterdir()) == []
        with pytest.raises(TypeError, match="the item 'k' holds something that JSON cannot"):
            index.add(
                "image", torch.ones(1, D), torch.tensor([0]), [Item("k", {"shard": "s", "key": "k"}, json={"x": 1j})]
            )


def test_a_row_of_small_floats_may_be_long(tmp_path):
    with LocalIndex.create(tmp_path / "index", {"dim": D}) as index:
        index.add("image", torch.full((1, D), 60_000.0, dtype=torch.float16), torch.tensor([0]), [item(0)])
        assert float(index.rows("image", [1]).values[0, 0]) == pytest.approx(60_000, rel=1e-3)


def test_compaction_after_all_samples_of_a_modality_went(tmp_path):
    with LocalIndex.create(tmp_path / "index") as index:
        index.add("image", draw_rows(0, range(3)).values, torch.arange(3), [item(i) for i in range(3)])
        index.add("audio", draw_rows(1, range(3)).values, torch.arange(3), [item(i) for i in range(3, 6)])
        assert index.delete([f"k{i}" for i in range(3, 6)]) == 3
        assert (index.compact(), index.check(), dict(index.modalities)) == (3, [], {"image": 3})
        assert index.delete([f"k{i}" for i in range(3)]) == 3
        assert (index.compact(), index.check(), dict(index.modalities), index.count()) == (3, [], {}, 0)
        assert list((tmp_path / "index" / "segments").iterdir()) == []
        index.add("image", draw_rows(0, range(1)).values, torch.arange(1), [item(0)])
        assert index.numbers().tolist() == [7]


def test_true_and_one_are_two_values_of_a_list(tmp_path):
    odd = [{"a": [1, True]}, {"a": [True, 1.0]}, {"a": [1]}, {"a": True}, {True: 1, 2: "b", None: "c"}]
    with LocalIndex.create(tmp_path / "index") as index:
        items = [Item(f"k{i}", {"shard": "s", "key": f"k{i}"}, [], None, json) for i, json in enumerate(odd)]
        index.add("image", torch.ones(len(odd), D), torch.arange(len(odd)), items)
        assert index.numbers(None, parse({"a": True})).tolist() == [1, 2, 4]
        assert index.numbers(None, parse({"a": 1})).tolist() == [1, 2, 3]
        assert index.numbers(None, parse({"true": 1, "2": "b", "null": "c"})).tolist() == [5]
        assert index.check() == []
        index.delete([f"k{i}" for i in range(len(odd))])
        assert index.facets() == []


def test_an_unknown_dtype_is_refused(tmp_path):
    with pytest.raises(ValueError, match="rows are stored as float32 or float16, not 'int8'"):
        LocalIndex.create(tmp_path / "index", {"dtype": "int8"})
    assert not (tmp_path / "index").exists()


def test_questions_that_the_index_cannot_answer(tmp_path):
    with LocalIndex.create(tmp_path / "index") as index:
        index.add("image", torch.ones(1, D), torch.tensor([0]), [item(0)])
        with pytest.raises(ValueError, match=r"the index has no 'smell'; it has image"):
            index.search(torch.ones(1, D), "smell", 3)
        with pytest.raises(ValueError, match=rf"a query of .* is \(q, {D}\); got \(1, 4\)"):
            index.search(torch.ones(1, 4), "image", 3)
        with pytest.raises(ValueError, match="k must be at least 1"):
            index.search(torch.ones(1, D), "image", 0)
    with pytest.raises(ValueError, match="is closed"):
        index.count()
    with LocalIndex.open(tmp_path / "index") as index, pytest.raises(PermissionError, match="is open for reading"):
        index.delete(["k0"])


def test_places_that_are_no_index(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no index in .*; make one with: align index build MODEL SHARDS --out"):
        LocalIndex.open(tmp_path / "none")
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(FileExistsError, match="is there and is no index; choose another folder"):
        LocalIndex.create(tmp_path)
    LocalIndex.create(tmp_path / "index").close()
    with pytest.raises(FileExistsError, match="is an index already"):
        LocalIndex.create(tmp_path / "index")
    header = Path(tmp_path / "index" / "index.json")
    header.write_text('{"schema": 3}')
    with pytest.raises(ValueError, match="has schema 3; this align reads up to 2: upgrade align"):
        LocalIndex.open(tmp_path / "index")
    header.write_text("[]")
    with pytest.raises(ValueError, match="is no header of an index"):
        LocalIndex.open(tmp_path / "index")


def test_odd_folders_and_names(tmp_path):
    for name in ("a b", "50% off?#x=1&y", "日本", "a'b\"c", os.fsdecode(b"caf\xe9")):
        with LocalIndex.create(tmp_path / name) as index:
            odd = Item('é"\0\udce9/x', {"file": "/p/\udce9/x.y"}, ["\0a\udce9 dog"], None, {'q"\0': "v\0"})
            index.add("im/age", torch.ones(1, D), torch.tensor([0]), [odd])
            assert index.items([1]) == [odd]
            assert index.find_text("dog", 3)[1].tolist() == [1]
            assert index.count("im/age", parse({'q"\0': "v\0"})) == 1
            assert index.delete([odd.key]) == 1
            assert index.check() == []
