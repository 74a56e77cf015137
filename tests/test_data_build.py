"""Shards from tables and folders."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from tiny_data import npy, png, wav

from align.curation import build
from align.data import Shards

OFF = "OFF\n4 4 0\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n"


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "a.png").write_bytes(png(0))
    (folder / "b.PNG").write_bytes(png(1))
    (folder / "a.wav").write_bytes(wav(0))
    (folder / "a.npy").write_bytes(npy(0))
    (folder / "a.off").write_text(OFF)
    return folder


def table(folder, rows, name="t.csv"):
    path = folder / name
    if name.endswith("jsonl"):
        path.write_text("\n".join(map(json.dumps, rows)))
        return path
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with open(path, "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def read(out, split="train"):
    found = Shards(out / f"{split}-*.tar", shuffle=False).samples(0)
    return {s["__key__"]: {k: v for k, v in s.items() if not k.startswith("__")} for s in found}


ROWS = [
    {
        "image": "a.png",
        "audio": "a.wav",
        "points": "a.npy",
        "text": "all of it",
        "label": "cat",
        "group": "g",
        "weight": "2",
    },
    {"image": "b.PNG", "text": "  two\nlines "},
    {"text": "only", "label.shape": "cone", "label.size": "3"},
    {"image": "", "text": ""},
]


def test_a_csv_byte_for_byte(files, tmp_path):
    assert build(table(files, ROWS), tmp_path / "out", licence="CC0-1.0") == {"train": 3, "left out": 1}
    found = read(tmp_path / "out")
    about = json.loads(found["00000000"].pop("json"))
    assert about == {"label": "cat", "group": "g", "weight": 2.0}
    assert found["00000000"] == {
        "image.png": png(0),
        "audio.wav": wav(0),
        "points.npy": npy(0),
        "text.txt": b"all of it",
    }
    assert found["00000001"] == {"image.png": png(1), "text.txt": b"two lines"}
    assert json.loads(found["00000002"]["json"]) == {"label": {"shape": "cone", "size": "3"}}
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["licence"] == "CC0-1.0"
    assert manifest["modalities"] == {"audio": 1, "image": 2, "points": 1, "text": 3}


def test_a_jsonl_with_several_rows_of_a_kind(files, tmp_path):
    rows = [
        {"key": "x", "image": ["a.png", "b.PNG"], "text": ["one", "two"], "text.neg": "three", "label": ["a", "b"]},
        {"key": "y", "image.0": "a.png", "image.1": "b.PNG", "audio": None},
    ]
    build(table(files, rows, "t.jsonl"), tmp_path / "out", split="val")
    found = read(tmp_path / "out", "val")
    assert json.loads(found["x"].pop("json")) == {"label": ["a", "b"]}
    assert found["x"] == {
        "image.0.png": png(0),
        "image.1.png": png(1),
        "text.txt": b"one\ntwo",
        "text.neg.txt": b"three",
    }
    assert found["y"] == {"image.0.png": png(0), "image.1.png": png(1)}


def test_a_parquet_table(files, tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [
        {"image": {"bytes": png(5), "path": "p.png"}, "text": "inside", "weight": 1.5},
        {"image": None, "text": "none", "weight": float("nan")},
    ]
    parquet.write_table(pa.Table.from_pylist(rows), files / "t.parquet")
    build(files / "t.parquet", tmp_path / "out")
    found = read(tmp_path / "out")
    assert found["00000000"] == {"image.png": png(5), "text.txt": b"inside", "json": b'{"weight": 1.5}'}
    assert found["00000001"] == {"text.txt": b"none"}
    (files / "bad.parquet").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"bad\.parquet is not Parquet"):
        build(files / "bad.parquet", tmp_path / "out")


def test_other_columns_are_mapped_left_out_or_refused(files, tmp_path):
    path = table(files, [{"file": "a.png", "caption": "x", "notes": "y"}])
    with pytest.raises(
        ValueError, match=r"unknown column 'file', 'caption', 'notes'; known are image, .* --columns file=text"
    ):
        build(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    build(path, tmp_path / "out", columns={"file": "image", "caption": "text", "notes": ""})
    assert read(tmp_path / "out")["00000000"] == {"image.png": png(0), "text.txt": b"x"}
    with pytest.raises(ValueError, match="has no column 'fiel'; it has caption, file, notes"):
        build(path, tmp_path / "out", columns={"file": "image", "caption": "text", "notes": "", "fiel": "image"})


def test_modalities_of_ones_own(files, tmp_path):
    path = table(files, [{"depth": "a.npy", "lyrics": "la la"}])
    build(path, tmp_path / "out", modalities=["depth", "lyrics"], literal=["lyrics"])
    assert read(tmp_path / "out")["00000000"] == {"depth.npy": npy(0), "lyrics.txt": b"la la"}


def test_meshes_become_clouds_the_same_each_time(files, tmp_path):
    path = table(files, [{"points": "a.off"}, {"points": "a.off"}])
    for name in ("one", "two"):
        build(path, tmp_path / name, points=50)
    found = read(tmp_path / "one")
    cloud = np.load(io.BytesIO(found["00000000"]["points.npy"]))
    assert (cloud.shape, cloud.dtype) == ((50, 3), np.float32)  # an .off has no colour
    assert found == read(tmp_path / "two")
    assert found["00000000"] != found["00000001"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image": "gone.png"}, r"t\.csv row 2: no file .*gone\.png"),
        ({"image": "a.wav"}, r"row 2: .*a\.wav is no image file that can be read \(jpg, "),
        ({"weight": "much", "text": "x"}, r"row 2: weight 'much' is not a number"),
        ({"weight": "-1", "text": "x"}, r"row 2: weight -1\.0: a weight is a finite number of at least 0"),
        (
            {"label": "cat", "label.shape": "cone", "text": "x"},
            r"row 2: label is 'cat' and has attributes too \(shape\)",
        ),
        (
            {"label.shape": "cone", "label": "cat", "text": "x"},
            r"row 2: label is 'cat' and has attributes too \(shape\)",
        ),
        ({"key": "../x", "text": "x"}, r"row 2: key '\.\./x'"),
        ({"key": "00000000", "text": "x"}, r"row 2: key '00000000' is that of row 1"),
    ],
)
def test_the_row_is_named(files, tmp_path, row, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        build(table(files, [{"image": "a.png"}, row]), tmp_path / "out")
    assert not (tmp_path / "out").exists()  # everything is looked at first


def test_tables_that_are_none(files, tmp_path):
    for name, content, message in (
        ("t.csv", "image,text\na.png\n", "row 1: its cells do not fit the 2 columns"),
        ("t.csv", "image,text\n", "has no rows"),
        ("t.csv", "image,image\na.png,a.png\n", "has two columns 'image'"),
        ("t.jsonl", '{"text": "a", "label": 1.5}\n', "row 1: label 1.5: a label is an int, a str"),
        ("t.csv", "label\ncat\n", "no column of a modality"),
        ("t.jsonl", '{"text": "a"}\n[1]\n', "line 2 is a list"),
        ("t.jsonl", "{\n", "line 1 is not JSON"),
        ("t.xlsx", "", "a table is a .csv"),
    ):
        (files / name).write_text(content)
        with pytest.raises(ValueError, match=message):
            build(files / name, tmp_path / "out")
    (files / "t.csv").write_bytes(b"text\ncaf\xe9\n")
    with pytest.raises(ValueError, match=r"t\.csv is not UTF-8 \(.*0xe9\); save it as UTF-8"):
        build(files / "t.csv", tmp_path / "out")
    with pytest.raises(NotADirectoryError, match="is a file; name a folder"):
        build(files / "t.csv", files / "a.png")
    with pytest.raises(FileNotFoundError, match="no table or folder"):
        build(files / "none", tmp_path / "out")


def tree(root, paths):
    for i, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes({"png": png, "wav": wav, "npy": npy}.get(path[-3:], lambda _: b"words")(i))
    return root


def test_a_folder_of_classes(tmp_path):
    root = tree(
        tmp_path / "in",
        ["red_dog/b.x.png", "cat/1.png", "cat/1.wav", "cat/2.png", "cat/2.txt", "cat/.DS_Store", "cat/x.md"],
    )
    assert build(root, tmp_path / "out", template=["a photo of a {}", "{}"]) == {"train": 3, "left out": 1}
    found = read(tmp_path / "out")
    assert list(found) == ["cat_1", "cat_2", "red_dog_b_x"]
    assert found["cat_1"] == {
        "image.png": png(1),
        "audio.wav": wav(2),
        "text.txt": b"a photo of a cat\ncat",
        "json": b'{"label": "cat", "group": "cat"}',  # equal captions are no negatives of each other
    }
    assert (found["cat_2"]["text.txt"], found["cat_2"]["json"]) == (b"words", b'{"label": "cat"}')
    assert found["red_dog_b_x"]["text.txt"] == b"a photo of a red dog\nred dog"
    assert Shards(tmp_path / "out" / "*.tar").classes == {"label": ["cat", "red_dog"]}


def test_a_folder_of_splits(tmp_path):
    root = tree(tmp_path / "in", ["train/a/1.png", "train/b/1.png", "valid/a/1.png", "test/a/deep/1.png"])
    assert build(root, tmp_path / "out", template=[]) == {"test": 1, "train": 2, "val": 1, "left out": 0}
    assert list(read(tmp_path / "out", "test")) == ["test_a_deep_1"]
    assert set(read(tmp_path / "out")["train_a_1"]) == {"image.png", "json"}
    assert "sample/duplicate-key" not in Shards(tmp_path / "out" / "*.tar").report()  # a_1.png is in train and in valid


def test_a_folder_of_plain_files(tmp_path):
    root = tree(tmp_path / "in", ["1.png", "1.txt", "1.wav", "x.md", "2.png", "README.txt"])
    assert build(root, tmp_path / "out") == {"train": 2, "left out": 2}
    assert read(tmp_path / "out") == {
        "1": {"audio.wav": wav(2), "image.png": png(0), "text.txt": b"words"},
        "2": {"image.png": png(4)},
    }
    assert Shards(tmp_path / "out" / "*.tar").classes == {}


def test_folders_that_are_none(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(ValueError, match=r"has no folders; expected .*/CLASS/file, or a table"):
        build(tmp_path / "in", tmp_path / "out")
    tree(tmp_path / "in", ["a/x.md"])
    with pytest.raises(ValueError, match="no file below"):
        build(tmp_path / "in", tmp_path / "out")
    tree(tmp_path / "two", ["a/1.png", "a/1.jpg"])
    with pytest.raises(ValueError, match="would be the image of one sample"):
        build(tmp_path / "two", tmp_path / "out")
    with pytest.raises(ValueError, match=r"has no \{\} for the class name"):
        build(tmp_path / "two", tmp_path / "out", template=["a photo"])
