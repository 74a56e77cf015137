"""Shards cut into parts and joined again: every sample once, every byte kept, no group cut, no class changed."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction

import pytest
from tiny_data import members, png, write

from align.commands import main
from align.curation import filter_shards, merge_shards, split_shards
from align.curation.cut.split import cut_by_label
from align.data import Shards, ShardWriter

PARTS = {"train": 0.6, "val": 0.2, "test": "0.2"}


def read(pattern):
    return {
        s["__key__"]: {k: v for k, v in s.items() if not k.startswith("__")}
        for s in Shards(pattern, shuffle=False).samples(0)
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write(tmp_path_factory.mktemp("whole"), 60)


def cut(whole, out, **options):
    written, dropped = split_shards(whole, out, PARTS, **options)
    found = {name: read(out / f"{name}-*.tar") for name in PARTS}
    assert dropped == {}
    assert written == {name: len(some) for name, some in found.items()}
    assert {k: v for some in found.values() for k, v in some.items()} == read(whole)  # each once, every byte
    assert sum(written.values()) == 60
    return found


def test_by_key_a_sample_stays_where_it_is(whole, tmp_path):
    found = cut(whole, tmp_path / "a")
    assert all(some for some in found.values())
    smaller = write(tmp_path / "half", 30)
    split_shards(smaller, tmp_path / "b", PARTS)
    for name, some in found.items():
        assert set(read(tmp_path / "b" / f"{name}-*.tar")) == {key for key in some if int(key) < 30}
    assert cut(whole, tmp_path / "c", seed=1)["train"].keys() != found["train"].keys()


def test_the_shares_are_those_asked_for():
    samples = [("x", f"{i}") for i in range(10_000)]
    shares = {"train": Fraction("0.8"), "val": Fraction("0.15"), "test": Fraction("0.05")}
    assert Counter(cut_by_label(samples, 0, shares)) == {"train": 8000, "val": 1500, "test": 500}


def test_by_group_no_group_is_cut(whole, tmp_path):
    found = cut(whole, tmp_path, by="group")
    groups = {name: {json.loads(s["json"])["group"] for s in some.values()} for name, some in found.items()}
    assert sum(map(len, groups.values())) == len(set.union(*groups.values())) == 15


def test_by_label_every_class_has_its_share(whole, tmp_path):
    found = cut(whole, tmp_path, by="label")
    for name, share in (("train", 6), ("val", 2), ("test", 2)):
        each = Counter(json.dumps(json.loads(s["json"])["label"]) for s in found[name].values())
        assert each == dict.fromkeys(each, share)  # six combinations, ten samples each
        assert len(each) == 6


def test_classes_of_one_sample_are_shared_out_too():
    shares = {"train": Fraction("0.8"), "test": Fraction("0.2")}
    found = Counter(cut_by_label([(f"class {i}", "k") for i in range(2000)], 0, shares))
    assert found["test"] == pytest.approx(400, abs=60)


def test_parts_know_the_classes_of_the_whole_and_are_balanced(whole, tmp_path):
    split_shards(whole, tmp_path, {"a": 0.9, "b": 0.1}, per_shard=20)
    assert Shards(tmp_path / "b-*.tar").classes == Shards(whole).classes
    lengths = [len(Shards(path)) for path in sorted(tmp_path.glob("a-*.tar"))]
    assert max(lengths) - min(lengths) <= 1
    assert max(lengths) <= 20


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"a": 0.5}, r"parts a=0\.5: shares are above 0 and sum to 1 \(these to 0\.5\)"),
        ({"a": 1.5, "b": -0.5}, "above 0"),
        ({}, r"\(none\)"),
        ({"a": "0.99999", "b": "0.00001"}, "part 'b' would get none of the 60 samples"),
        ({"a/b": 1}, "make the name of a split"),
    ],
)
def test_parts_that_are_none(whole, tmp_path, parts, message):
    with pytest.raises(ValueError, match=message):
        split_shards(whole, tmp_path / "out", parts)
    assert not list(tmp_path.glob("out/*.tar"))


def test_nothing_is_written_over_what_is_read(whole, tmp_path):
    folder = Shards(whole).urls[0].parent
    with pytest.raises(ValueError, match="holds the shards to read; write to another folder"):
        split_shards(whole, folder, PARTS)
    with pytest.raises(ValueError, match="holds the shards to read"):
        merge_shards([whole], folder)


def test_no_part_of_another_cut_stays_beside(whole, tmp_path):
    split_shards(whole, tmp_path, {"train": 0.5, "val": 0.5})
    with pytest.raises(ValueError, match=r"has the split 'val' already, which would stay beside train, test; write to"):
        split_shards(whole, tmp_path, {"train": 0.5, "test": 0.5})
    written, _ = split_shards(whole, tmp_path, {"train": 0.8, "val": 0.2})  # the same parts are cut anew
    assert sum(written.values()) == 60


def test_what_cannot_be_copied_is_counted(tmp_path):
    import io
    import tarfile

    with tarfile.open(tmp_path / "in.tar", "w") as tar:
        for name, data in {"a.jpg": png(0), "a.pkl": b"x", "b.jpg": png(1), "b.json": b"{", "c.pkl": b"x"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert split_shards(tmp_path / "in.tar", tmp_path / "out", {"all": 1}) == (
        {"all": 1},
        {"json/invalid": 1, "member/pkl": 2, "sample/empty": 1},
    )
    assert read(tmp_path / "out" / "all-*.tar") == {"a": {"jpg": png(0)}}


def test_a_sample_with_a_damaged_member_is_left_out_whole_and_said(tmp_path):
    pattern = write(tmp_path / "in", 6)
    path = tmp_path / "in" / "train-000000.tar"
    said = json.loads(path.with_name(path.name + ".index.json").read_text())
    data = bytearray(path.read_bytes())
    data[data.find(png(3)) + 50] ^= 1
    path.write_bytes(data)
    said["shard"]["mtime_ns"] = path.stat().st_mtime_ns
    path.with_name(path.name + ".index.json").write_text(json.dumps(said))
    left = {"image/checksum": 1}
    assert split_shards(pattern, tmp_path / "out", {"all": 1}) == ({"all": 5}, left)
    assert merge_shards([pattern], tmp_path / "merged")[::2] == (5, left)
    assert filter_shards(pattern, tmp_path / "kept", "has_audio") == ({"train": 5}, left)
    assert "00003" not in read(tmp_path / "merged" / "*.tar")
    path.write_bytes(data[:-20_000])  # cut
    _, dropped = split_shards(pattern, tmp_path / "cut", {"all": 1})
    assert dropped["sample/cut"] == 1


# merge


def made(folder, names, labels, classes=None, licence=None):
    with ShardWriter(folder, classes=classes, licence=licence) as writer:
        for name, label in zip(names, labels, strict=True):
            writer.write(name, {"text.txt": name.encode(), "json": json.dumps({"label": label, "x": 1}).encode()})
    return str(folder / "train-*.tar")


def test_merged_sets_keep_order_bytes_and_classes(whole, tmp_path):
    other = write(tmp_path / "other", 7, make=lambda i: {**members(i), "text.txt": b"other"})
    with pytest.raises(ValueError, match=r"key '00000' is in .*whole.* and again in .*other.*; rename"):
        merge_shards([whole, other], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    third = write(tmp_path / "third", 1)
    samples, changed, dropped = merge_shards([whole, other, third], tmp_path / "out", duplicates="rename", per_shard=50)
    assert (samples, changed, dropped) == (68, {"renamed": 8, "relabelled": 0}, {})
    found = read(tmp_path / "out" / "*.tar")
    assert list(found) == [f"{i:05d}" for i in range(60)] + [f"{i:05d}-2" for i in range(7)] + ["00000-3"]
    assert {key: found[key] for key in read(whole)} == read(whole)
    assert found["00003-2"] == read(other)["00003"]
    assert Shards(tmp_path / "out" / "*.tar").classes == Shards(whole).classes
    assert [len(Shards(p)) for p in sorted((tmp_path / "out").glob("*.tar"))] == [34, 34]


def test_a_new_key_is_never_one_that_is_there(tmp_path):
    one = made(tmp_path / "one", ["a", "a-2"], ["x", "x"])
    two = made(tmp_path / "two", ["a", "a-3"], ["x", "x"])
    merge_shards([one, two], tmp_path / "out", duplicates="rename")
    assert list(read(tmp_path / "out" / "*.tar")) == ["a", "a-2", "a-4", "a-3"]


def test_numbers_that_mean_another_class_become_names(tmp_path):
    one = made(tmp_path / "one", ["a", "b"], [0, 1], {"label": ["cat", "dog"]}, "CC0-1.0")
    two = made(tmp_path / "two", ["c", "d", "e"], [0, [1, 0], "cow"], {"label": ["dog", "cow"]}, "CC-BY-4.0")
    samples, changed, _ = merge_shards([one, two], tmp_path / "out")
    assert (samples, changed["relabelled"]) == (5, 2)
    found = read(tmp_path / "out" / "*.tar")
    assert [json.loads(s["json"])["label"] for s in found.values()] == [0, 1, "dog", ["cow", "dog"], "cow"]
    assert json.loads(found["c"]["json"]) == {"label": "dog", "x": 1}
    shards = Shards(tmp_path / "out" / "*.tar")
    assert shards.classes == {"label": ["cat", "dog", "cow"]}
    assert (shards.manifest or {})["licence"] == "CC-BY-4.0; CC0-1.0"


def test_numerals_are_names_and_stay(tmp_path):
    one = made(tmp_path / "one", ["a"], [1])  # classes "0", "1"
    two = made(tmp_path / "two", ["b"], [3])
    assert merge_shards([one, two], tmp_path / "out")[1]["relabelled"] == 0
    assert Shards(tmp_path / "out" / "*.tar").classes == {"label": ["0", "1", "2", "3"]}


# as typed


def test_the_commands(whole, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["shards", "split", whole, "out", "--parts", "train=0.8, test=0.2", "--by", "label"]) == 0
    out = capsys.readouterr().out
    assert "out/train-*.tar: 48 samples (80.0%)" in out
    assert "out/test-*.tar: 12 samples (20.0%)" in out
    assert main(["shards", "merge", "out/train-*.tar", "out/test-*.tar", "again"]) == 0
    assert "again/train-*.tar: 60 samples of 2 sets" in capsys.readouterr().out
    assert read("again/*.tar") == read(whole)
    assert main(["shards", "merge", "again", "out", "third", "--duplicates", "rename", "--split", "all"]) == 0
    assert "renamed: 60 keys" in capsys.readouterr().out
    for arguments, message, code in (
        (["split", whole, "x", "--parts", "train"], "--parts 'train': write NAME=SHARE", 1),
        (["split", whole, "x", "--parts", "train=much"], "train=much: a share is a number", 1),
        (["split", whole, "x", "--parts", "train=0.5"], "sum to 1", 1),
        (["split", whole, "x", "--parts", "train=1", "--by", "size"], "'key', 'group', 'label'", 2),
        (["split", whole, "x"], "are required: parts", 2),
        (["merge", whole, "out/train-*.tar", "x"], "--duplicates rename", 1),
        (["merge", "none-*.tar", "x"], "no shard matches none-*.tar", 1),
    ):
        assert main(["shards", *arguments]) == code
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    for name in ("split", "merge", "filter", "build"):
        assert main(["shards", name, "--help"]) == 0
        out = capsys.readouterr().out
        assert len(out.splitlines()) > 20
        assert len(out.split("positional arguments")[0].split("\n\n")) > 3  # paragraphs, not one block
