"""Folders and tables that are laid out otherwise than `shards build` reads: they are read as meant, or told how."""

from __future__ import annotations

import json

import pytest
from test_data_build import read, table, tree
from test_data_build_sources import tar
from tiny_data import png, wav, write

from align.commands import main
from align.curation import build, filter_shards, split_shards
from align.data import Shards


@pytest.mark.parametrize("names", [("images", "captions"), ("Image", "text"), ("jpg", "txt")])
def test_images_beside_captions(tmp_path, names):
    pictures, texts = names
    paths = [
        f"{pictures}/1.png",
        f"{pictures}/2.png",
        f"{pictures}/deep/3.png",
        f"{texts}/1.txt",
        f"{texts}/deep/3.txt",
    ]
    root = tree(tmp_path / "in", [*paths, f"{texts}/left.txt"])
    assert build(root, tmp_path / "out") == {"train": 3, "left out": 1}
    found = read(tmp_path / "out")
    assert {key: set(sample) for key, sample in found.items()} == {
        "1": {"image.png", "text.txt"},
        "2": {"image.png"},
        "deep_3": {"image.png", "text.txt"},
    }
    assert Shards(tmp_path / "out" / "*.tar").classes == {}


def test_three_modalities_side_by_side_below_a_split(tmp_path):
    paths = [
        f"{split}/{folder}"
        for split in ("train", "test")
        for folder in ("images/1.png", "audio/1.wav", "captions/1.txt")
    ]
    build(tree(tmp_path / "in", paths), tmp_path / "out")
    assert set(read(tmp_path / "out", "test")["test_1"]) == {"image.png", "audio.wav", "text.txt"}


def test_captions_apart_from_their_files_name_the_layout(tmp_path):
    root = tree(tmp_path / "in", ["rgb/1.png", "rgb/2.png", "labels/1.txt", "labels/2.txt"])
    with pytest.raises(
        ValueError, match=r"labels holds texts with the names of the files in .*rgb: a caption lies beside"
    ):
        build(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    root = tree(tmp_path / "classes", ["dog/1.png", "cat/1.wav", "notes/x.txt"])  # no caption of any file
    assert build(root, tmp_path / "out") == {"train": 2, "left out": 1}
    assert Shards(tmp_path / "out" / "*.tar").classes["label"] == ["cat", "dog", "notes"]


@pytest.mark.parametrize("beside", ["00000_stats.json", "00000.parquet", "00000/000000000.json"])
def test_what_img2dataset_writes_as_files(tmp_path, beside):
    root = tree(tmp_path / "in", ["00000/000000000.png", "00000/000000000.txt", "00000/000000001.png", beside])
    build(root, tmp_path / "out")
    assert {key: set(sample) for key, sample in read(tmp_path / "out").items()} == {
        "000000000": {"image.png", "text.txt"},
        "000000001": {"image.png"},
    }


def test_classes_that_are_numbers_stay_classes(tmp_path):
    build(tree(tmp_path / "in", ["00000/1.png", "00001/1.png"]), tmp_path / "out")
    assert Shards(tmp_path / "out" / "*.tar").classes == {"label": ["00000", "00001"]}


@pytest.mark.parametrize(
    ("mark", "word", "name"),
    [(";", "';'", "t.csv"), ("\t", "tab", "t.csv"), ("|", "'|'", "t.csv"), (",", ",", "t.tsv")],
)
def test_a_table_with_another_separator(tmp_path, capsys, mark, word, name):
    path = tmp_path / name
    path.write_text(f"image{mark}text\n{mark}a cat\n{mark}a dog\n")
    assert main(["shards", "build", str(path), str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert f"--separator {word}" in said
    assert "--columns" not in said
    assert main(["shards", "build", str(path), str(tmp_path / "out"), "--separator", word.strip("'")]) == 0
    assert [sample["text.txt"] for sample in read(tmp_path / "out").values()] == [b"a cat", b"a dog"]
    with pytest.raises(
        ValueError, match=r"separator 'ab' of .*: a \.csv or \.tsv has one, a character, or the word tab"
    ):
        build(path, tmp_path / "no", separator="ab")


def test_a_name_of_one_column_may_hold_a_mark(tmp_path):
    (tmp_path / "t.csv").write_text("text|x\na\n")
    with pytest.raises(ValueError, match=r"--separator '\|'"):
        build(tmp_path / "t.csv", tmp_path / "out", columns={"text|x": "text"})
    build(tmp_path / "t.csv", tmp_path / "out", columns={"text|x": "text"}, separator=",")
    with pytest.raises(ValueError, match="separator ';'"):
        build(table(tmp_path, [{"text": "a"}], "t.jsonl"), tmp_path / "no", separator=";")


@pytest.mark.parametrize("command", ["show", "stats", "check", "split", "merge", "filter"])
def test_what_is_no_shard_is_told_what_makes_some(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    tree(tmp_path, ["my set/cat/1.png", "t.csv"])
    more = {"split": ["out", "--parts", "a=1"], "merge": ["out"], "filter": ["out", "--where", "has_text"]}.get(
        command, []
    )
    assert main(["shards", command, "my set", *more]) == 1
    assert "my set holds no .tar; `align shards build 'my set' OUT` makes shards" in capsys.readouterr().err
    assert main(["shards", command, "t.csv", *more]) == 1
    assert "t.csv is a table; `align shards build t.csv OUT` makes shards of it" in capsys.readouterr().err


def test_the_folder_to_write_to_by_position_and_by_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = str(table(tmp_path, [{"text": f"thing {i}"} for i in range(8)]).name)
    assert main(["shards", "build", path, "a"]) == main(["shards", "build", path, "--out", "b"]) == 0
    assert main(["shards", "build", "--out=c", path]) == 0
    assert read(tmp_path / "a") == read(tmp_path / "b") == read(tmp_path / "c")
    assert main(["shards", "split", "a", "--out", "parts", "--parts", "x=0.5,y=0.5", "--by", "label"]) == 0
    assert main(["shards", "merge", "a", "b", "--out", "both", "--duplicates", "rename"]) == 0
    assert main(["shards", "filter", "--out", "kept", "a", "--where", "has_text"]) == 0
    assert [len(Shards(f"{name}/*.tar")) for name in ("parts", "both", "kept")] == [8, 16, 8]
    for flag in ("--out", "--run"):
        assert main(["quickstart", flag, "q", "--objects", "3"]) == 1  # it came as far as the objects
    capsys.readouterr()
    for args, said in (
        (["build", path], "arguments are required: out"),
        (["build", path, "d", "--out", "e"], "unrecognized arguments: d"),
        (["build", path, "--ot", "d"], "did you mean --out?"),
        (["show", "a", "--out", "d"], "no option --out"),
    ):
        assert main(["shards", *args]) == 2
        assert said in capsys.readouterr().err
    assert main(["shards", "merge", "--help"]) == 0
    assert "--out FOLDER means the same" in " ".join(capsys.readouterr().out.split())


def test_limits_are_checked_before_anything_is_read(tmp_path, monkeypatch):
    pattern = write(tmp_path / "in", 4)
    path = table(tmp_path, [{"text": "a"}])
    for call in (
        lambda: build(path, tmp_path / "out", points=5_000_001),
        lambda: build(path, tmp_path / "out", points=0),
        lambda: build(path, tmp_path / "out", split="a/b"),
    ):
        monkeypatch.setattr("align.curation.sources.table.read_table", lambda *a: pytest.fail("the table was read"))
        with pytest.raises(ValueError, match=r"points=|split 'a/b'"):
            call()
    for module in ("split", "filter", "merge"):
        monkeypatch.setattr(
            f"align.curation.cut.{module}.Shards", lambda *a, **k: pytest.fail("the shards were opened")
        )
    from align.curation import merge_shards

    for options in ({"per_shard": 0}, {"split": "a/b"}):
        with pytest.raises(ValueError, match=r"per_shard=0|split 'a/b'"):
            filter_shards(pattern, tmp_path / "out", "has_text", **options)
        with pytest.raises(ValueError, match=r"per_shard=0|split 'a/b'"):
            merge_shards([pattern], tmp_path / "out", **options)
    with pytest.raises(ValueError, match="per_shard=0"):
        split_shards(pattern, tmp_path / "out", {"a": 1}, per_shard=0)
    with pytest.raises(ValueError, match="split 'a/b'"):
        split_shards(pattern, tmp_path / "out", {"a/b": 1})


def test_a_key_in_two_shards_is_said_with_both(tmp_path):
    for name in "ab":
        tar(tmp_path / "in" / f"{name}.tar", {"1.jpg": png(0), "1.wav": wav(0)})
    said = r"key '1' is in .*a\.tar and again in .*b\.tar; `align shards merge SHARDS --out OUT --duplicates rename`"
    for call in (
        lambda: build(tmp_path / "in", tmp_path / "out"),
        lambda: split_shards(str(tmp_path / "in" / "*.tar"), tmp_path / "out", {"x": 1}),
        lambda: filter_shards(str(tmp_path / "in" / "*.tar"), tmp_path / "out", "has_image"),
    ):
        with pytest.raises(ValueError, match=said):
            call()
    assert json.loads((tmp_path / "in" / "a.tar.index.json").read_text())["keys"] == ["1"]
