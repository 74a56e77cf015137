"""Captions of every form, blank ones, and members whose names no shard may hold: each costs its row and is counted."""

from __future__ import annotations

import json

import made_sets
import pytest
from test_data_build import read, table
from test_data_build_sources import tar
from tiny_data import png, readers, write

from align.commands import main
from align.curation import build, merge_shards, split_shards
from align.curation.check import diagnose
from align.curation.stats import measure
from align.data import Loader, Shards, TooManyBad
from align.data.bad import is_fault
from align.data.captions import captions, is_blank
from align.values import BadSample

FORMS = {"object": {"en": "x"}, "true": True, "number": 7, "nested": [["a"]], "mixed": ["a", {"en": "b"}]}
BLANKS = {
    "nothing": b"",
    "line": b"\n",
    "spaces": b" \t \r\n",
    "mark": b"\xef\xbb\xbf",
    "wide": "\u3000\u200b".encode(),
}


def bad_lines(out, split="train"):
    path = out / f"{split}-bad.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def test_what_a_caption_is():
    assert captions("a") == ["a"]
    assert captions(["a", None, " ", float("nan"), "b"]) == ["a", "b"]
    assert captions(None) == captions([]) == captions(float("nan")) == captions("\n") == []
    for form in FORMS.values():
        with pytest.raises(BadSample, match="not-text"):
            captions(form)
    assert all(map(is_blank, BLANKS.values()))
    assert not any(map(is_blank, [b"a", b" .", b"\xff", "é".encode()]))


@pytest.fixture(params=["jsonl", "parquet", "rows", "generator", "json:caption"])
def made(request, tmp_path):
    """A sample for each odd form, one of two captions and one of one, by each way in: (the counts, the folder)."""
    cells = {**FORMS, "two": ["a  b", "c"], "one": "d"}
    out, kind = tmp_path / "out", request.param
    (tmp_path / "a.png").write_bytes(png(0))
    rows = [{"key": key, "image": str(tmp_path / "a.png"), "text": cell} for key, cell in cells.items()]
    if kind == "jsonl":
        return build(table(tmp_path, rows, "t.jsonl"), out, max_bad=1), out
    if kind == "parquet":
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        counts = {}
        for name in cells:  # a column has one type
            if name != "mixed":
                parquet.write_table(pa.Table.from_pylist([r for r in rows if r["key"] == name]), tmp_path / "t.parquet")
                counts = build(tmp_path / "t.parquet", out, split=name, max_bad=1)
                assert counts == {name: 1, "left out": 0, **({} if name in ("two", "one") else {"bad": 1})}
        return None, out
    if kind == "rows":
        return build(rows, out, max_bad=1), out
    if kind == "generator":
        return build(((k, {"image.png": png(0), "text.txt": c}) for k, c in cells.items()), out, max_bad=1), out
    files = {
        f"{k}.{n}": d for k, c in cells.items() for n, d in (("jpg", png(0)), ("json", json.dumps({"caption": c})))
    }
    tar(tmp_path / "in.tar", {name: data if isinstance(data, bytes) else data.encode() for name, data in files.items()})
    counts = build(tmp_path / "in.tar", out, max_bad=1, members={"text": ["json:caption"]})
    found = Shards(tmp_path / "in.tar", members={"text": ["json:caption"]}, max_bad=1, shuffle=False)
    batch = next(iter(Loader(found, readers(), batch=len(cells), train=False)))
    assert found.report() == {"text/not-text": len(FORMS)}
    assert batch["text"].sample.tolist() == [5, 5, 6]
    return counts, out


def test_other_forms_than_a_caption_cost_their_row(made):
    counts, out = made
    splits = [p.name.removesuffix("-000000.tar") for p in sorted(out.glob("*.tar"))]
    found = {key: sample for split in splits for key, sample in read(out, split).items()}
    assert (found["two"]["text.txt"], found["one"]["text.txt"]) == (b"a b\nc", b"d")
    odd = [key for key in found if key not in ("two", "one")]
    assert len(odd) >= len(FORMS) - 1
    assert all({name.partition(".")[0] for name in found[key]} <= {"image", "json"} for key in odd)
    lines = [line for split in splits for line in bad_lines(out, split)]
    assert sorted(line["key"] for line in lines) == sorted(odd)
    assert {line["reason"] for line in lines} == {"text/not-text"}
    if counts is not None:
        assert counts == {"train": len(found), "left out": 0, "bad": len(odd)}


def test_too_many_of_them_stop_the_build_by_name_and_leave_the_list(tmp_path, capsys):
    rows = [{"key": f"k{i}", "text": {"en": "x"} if i % 2 else "a"} for i in range(40)]
    path = table(tmp_path, rows, "t.jsonl")
    assert main(["shards", "build", str(path), str(tmp_path / "out")]) == 3
    said = capsys.readouterr().err
    assert "11 of 22 samples so far are bad" in said
    assert "--max-bad" in said
    assert "epoch" not in said
    assert "text/not-text" in said
    assert "k1.text.txt" in said
    assert f"{tmp_path / 'out' / 'train-bad.jsonl'} names them" in said
    assert [line["key"] for line in bad_lines(tmp_path / "out")] == [f"k{i}" for i in range(1, 22, 2)]
    few = table(tmp_path, [{"text": 1}, {"text": 2}, {"text": "x"}], "few.jsonl")
    with pytest.raises(TooManyBad, match=r"2 of 3 samples in all are bad, more than max_bad=0\.001 allows"):
        build(few, tmp_path / "few")
    assert len(bad_lines(tmp_path / "few")) == 2
    assert build(few, tmp_path / "few", max_bad=1) == {"train": 1, "left out": 0, "bad": 2}  # it goes on


def test_half_a_surrogate_pair_is_one_bad_row(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "\\ud800"}\n{"text": "b"}\n')
    assert build(path, tmp_path / "out", max_bad=1) == {"train": 1, "left out": 0, "bad": 1}
    assert bad_lines(tmp_path / "out")[0]["reason"] == "text/not-utf8"
    assert build([("a", {"text.txt": "\ud800"}), ("b", {"text.txt": "b"})], tmp_path / "g", max_bad=1)["bad"] == 1


@pytest.fixture
def foreign(tmp_path):
    """img2dataset's shards of 40 samples, of which two are blank in each of five ways, and one has a caption alone."""
    files, cells = {}, list(BLANKS.values())
    for i in range(40):
        files[f"{i:05d}.jpg"] = png(i)
        files[f"{i:05d}.txt"] = cells[i // 2] if i < 10 else b"a thing"
        files[f"{i:05d}.json"] = json.dumps({"caption": "" if i == 12 else [" ", None] if i == 13 else "a"}).encode()
    files["00040.txt"] = b"  "
    return tar(tmp_path / "in" / "00000.tar", files)


def test_blank_captions_of_a_foreign_set_are_holes(foreign, tmp_path):
    shards = Shards(foreign, shuffle=False)  # max_bad as it is by default: not one more than 10 of 41
    loader = Loader(shards, readers(), batch=8, train=False)
    rows = [batch["text"].sample.numel() for batch in loader]
    assert sum(rows) == 30
    assert shards.report() == {"sample/empty": 1, "text/blank": 11}
    assert not any(map(is_fault, shards.report()))
    assert loader.ledger.faults == 0
    assert loader.ledger.take() == []
    assert loader.ledger.reasons["text/blank"] == 11

    found = {f.reason: (f.count, f.severity) for f in diagnose(foreign).findings}
    assert found["text/blank"] == (11, "note")
    assert not [reason for reason, (_, severity) in found.items() if severity == "error"]
    numbers = measure(Shards(foreign, shuffle=False))
    assert (numbers["modalities"]["text"]["samples"], numbers["modalities"]["text"]["unreadable"]) == (30, 0)

    mapped = Shards(foreign, shuffle=False, members={"text": ["json:caption"]})
    list(Loader(mapped, readers(), batch=8, train=False))
    assert mapped.report() == {"sample/empty": 1, "text/blank": 2}


def test_building_leaves_blank_captions_out_and_counts_them(foreign, tmp_path, capsys):
    assert build(foreign, tmp_path / "out") == {"train": 40, "left out": 1, "blank": 11}
    found = read(tmp_path / "out")
    assert [key for key in found if "text.txt" not in found[key]] == [f"{i:05d}" for i in range(10)]
    assert {line["reason"] for line in bad_lines(tmp_path / "out")} == {"text/blank", "sample/empty"}
    assert main(["shards", "build", str(foreign), str(tmp_path / "cli")]) == 0
    assert "blank captions: 11, left out as holes" in capsys.readouterr().out
    rows = [("a", {"image.png": png(0), "text.txt": ""}), ("b", {"text.txt": "x"}), ("c", {"text.txt": b"\n"})]
    assert build(rows, tmp_path / "given") == {"train": 2, "left out": 1, "blank": 2}
    (tmp_path / "cats" / "cat").mkdir(parents=True)
    (tmp_path / "cats" / "cat" / "1.png").write_bytes(png(0))
    (tmp_path / "cats" / "cat" / "1.txt").write_bytes(b"\n")
    assert build(tmp_path / "cats", tmp_path / "folder") == {"train": 1, "left out": 0, "blank": 1}
    cells = table(tmp_path, [{"text": ["", " "], "audio": None}, {"text": "x"}], "t.jsonl")
    assert build(cells, tmp_path / "table") == {"train": 1, "left out": 1}


def test_a_blank_member_that_is_named_by_modality_is_damage(tmp_path):
    """Nothing here writes one. An empty class is no label."""
    path = tar(tmp_path / "a.tar", {"1.text.txt": b"\n", "1.image.png": png(0), "2.jpg": png(1), "2.cls": b" \n"})
    shards = Shards(path, shuffle=False, max_bad=1)
    batch = next(iter(Loader(shards, readers(), batch=2, train=False)))
    assert shards.report() == {"text/empty": 1}
    assert batch.labels == [None, None]
    assert build(path, tmp_path / "out") == {"train": 2, "left out": 0, "blank": 1}
    assert "json" not in read(tmp_path / "out")["2"]


ODD = ["000049.left cam.png", "000049.c++.png", "2.0 (Clean Version).png", "x.ü.png"]


@pytest.mark.parametrize("name", ODD)
def test_a_member_whose_name_no_shard_may_hold_is_left_out_and_listed(tmp_path, capsys, name):
    key, member = name.partition(".")[::2]
    path = tar(tmp_path / "in.tar", {"000048.jpg": png(1), "000048.txt": b"a cat", name: png(2), f"{key}.jpg": png(3)})
    assert build(path, tmp_path / "out") == {"train": 2, "left out": 0, "misnamed": 1}
    assert read(tmp_path / "out")[key] == {"image.jpg": png(3)}
    line = {"key": key, "member": member.lower(), "reason": "member/png"}
    assert bad_lines(tmp_path / "out") == [line]
    assert main(["shards", "build", str(path), str(tmp_path / "cli")]) == 0
    said = capsys.readouterr().out
    assert "1 member whose name no shard may hold" in said
    assert "first dot" in said
    split_shards(path, tmp_path / "cut", {"a": 1})
    assert bad_lines(tmp_path / "cut", "a") == [line]  # the same as split and merge say
    merge_shards([path], tmp_path / "merged")
    assert bad_lines(tmp_path / "merged") == [line]


def test_a_set_of_nothing_but_odd_names(tmp_path):
    path = tar(tmp_path / "in.tar", {"1.0 (Clean).png": png(0), "2.0 (Clean).png": png(1)})
    with pytest.raises(
        ValueError, match=r"no sample of the 2 that came could be written; .*train-bad\.jsonl says why .*first dot"
    ):
        build(path, tmp_path / "out")
    assert [line["member"] for line in bad_lines(tmp_path / "out")] == ["0 (clean).png", ""] * 2
    assert build(tar(tmp_path / "dots.tar", {"././a.jpg": png(0)}), tmp_path / "dots") == {"train": 1, "left out": 0}
    with pytest.raises(ValueError, match=r"sample 'k': member name 'left cam\.png'"):
        build([("k", {"left cam.png": png(0)})], tmp_path / "given")
    pattern = write(tmp_path / "ours", 2)
    with pytest.raises(ValueError, match=r"members: 'left cam' cannot name a modality"):
        build(pattern, tmp_path / "named", members={"left cam": ["jpg"]})


def test_the_help_says_the_rule_of_the_first_dot(capsys):
    assert main(["shards", "build", "--help"]) == 0
    assert "first dot" in " ".join(capsys.readouterr().out.split())


def test_a_recipe_refuses_another_form_in_one_line():
    recipe = made_sets.recipe("recipe")
    assert recipe.text([" a  b", "\ufeff", ""]) == {"text.txt": b"a b"}
    with pytest.raises(ValueError, match=r"list\.json: x\.jpg: caption \{'en': 'x'\} is a dict, no string"):
        recipe.text(["a", {"en": "x"}], "list.json: x.jpg")
