"""Equal captions that nothing groups: counted when shards are made, ended by a group, and said when a run starts."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from test_data_build import read, table, tree
from test_data_build_sources import tar
from tiny_data import png

from align.commands import main
from align.curation import build
from align.data import ShardWriter
from align.lit.repeats import find_repeats
from align.values import Rows


def splits(out):
    return json.loads((out / "manifest.json").read_text())["splits"]


def groups(out, split="train"):
    return {key: json.loads(sample.get("json", b"{}")).get("group") for key, sample in read(out, split).items()}


def test_a_template_makes_groups(tmp_path):
    root = tree(
        tmp_path / "in", ["red_dog/1.png", "red_dog/2.png", "red dog/3.png", "cat/1.png", "cat/2.png", "cat/2.txt"]
    )
    build(root, tmp_path / "out", template=["a {}", "{}"])
    found = groups(tmp_path / "out")
    assert found == {
        "cat_1": "cat",
        "cat_2": None,
        "red_dog_3": "red dog",
        "red_dog_1": "red dog",
        "red_dog_2": "red dog",
    }
    assert "repeated" not in splits(tmp_path / "out")["train"]
    build(root, tmp_path / "bare", template=[])
    assert set(groups(tmp_path / "bare").values()) == {None}  # no caption, none that is equal


ROWS = [
    {"text": "a cat", "label": "cat", "breed": "x", "person": "p"},
    {"text": "A  Cat", "label": "cat", "breed": "y", "person": "q"},
    {"text": ["a dog", "it barks"], "label": "dog", "breed": "x", "person": "p"},
    {"text": "it barks", "label": "dog", "breed": "", "person": "p"},
    {"text": "a cow", "breed": "z", "person": "p"},
]


@pytest.mark.parametrize(
    ("group", "expected", "repeated"),
    [
        (None, [None] * 5, 4),
        ("label", ["cat", "cat", "dog", "dog", None], 0),
        ("caption", ["a cat", "a cat", "a dog\nit barks", "it barks", "a cow"], 0),
        ("breed", ["x", "y", "x", None, "z"], 0),
        ("person", ["p", "q", "p", "p", "p"], 0),
    ],
)
def test_a_table_says_what_is_a_group(tmp_path, group, expected, repeated):
    columns = {name: "" for name in ("breed", "person") if name != group}
    path = table(tmp_path, ROWS, "t.jsonl")
    build(path, tmp_path / "out", columns=columns, group=group)
    assert list(groups(tmp_path / "out").values()) == expected
    assert splits(tmp_path / "out")["train"].get("repeated", 0) == repeated
    entry = json.loads((tmp_path / "out" / "manifest.json").read_text())["shards"]["train-000000.tar"]
    assert entry.get("repeated", 0) == repeated
    if group in (None, "label", "caption"):
        given = [(f"{i}", {"text.txt": row["text"], "json": {"label": row.get("label")}}) for i, row in enumerate(ROWS)]
        build(given, tmp_path / "given", group=group)
        assert list(groups(tmp_path / "given").values()) == expected
        files = {
            f"{i}.json": json.dumps({"label": r.get("label"), "c": r["text"]}).encode() for i, r in enumerate(ROWS)
        }
        build(tar(tmp_path / "in.tar", files), tmp_path / "tar", group=group, members={"text": ["json:c"]})
        assert list(groups(tmp_path / "tar").values()) == expected


def test_a_group_that_no_source_has(tmp_path):
    path = table(tmp_path, ROWS, "t.jsonl")
    with pytest.raises(ValueError, match=r"no column 'brede'; it has breed, label, person, text"):
        build(path, tmp_path / "out", columns={"breed": "", "person": ""}, group="brede")
    build(path, tmp_path / "in", columns={"breed": "", "person": ""})
    with pytest.raises(ValueError, match="group='breed': only a table has columns; it is label or caption here"):
        build(tmp_path / "in", tmp_path / "out", group="breed")


def test_the_build_says_so_and_a_killed_one_counts_the_same(tmp_path, capsys):
    path = table(tmp_path, [{"text": f"thing {i // 2}"} for i in range(40)])
    assert main(["shards", "build", str(path), str(tmp_path / "out"), "--per-shard", "10"]) == 0
    assert "equal captions: 40 of the 40 train samples" in capsys.readouterr().out
    whole = (tmp_path / "out" / "manifest.json").read_bytes()

    def stop(done, total):
        if done == 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(path, tmp_path / "again", per_shard=10, progress=stop)
    build(path, tmp_path / "again", per_shard=10)
    assert (tmp_path / "again" / "manifest.json").read_bytes() == whole
    assert main(["shards", "build", str(path), str(tmp_path / "grouped"), "--group", "caption"]) == 0
    assert "equal captions" not in capsys.readouterr().out


def test_repeats_by_hand():
    def rows(values, sample):
        return Rows(torch.tensor(values)[:, None], torch.tensor(sample))

    assert find_repeats(rows([7, 7, 8, 9, 9], [0, 1, 2, 3, 3]), None) == [0, 1]  # two rows of one sample are no repeat
    assert find_repeats(rows([7, 7, 7], [0, 1, -1]), None) == [0, 1]  # nor is a hard negative
    assert find_repeats(rows([7, 7, 8], [0, 1, -1]), torch.tensor([5, 5])) == []
    assert find_repeats(rows([7, 7, 7], [0, 1, 2]), torch.tensor([5, 5, -1])) == [0, 1, 2]
    assert find_repeats(rows([7, 7], [0, 1]), torch.tensor([5, 6])) == []  # two stated groups: somebody said so
    assert find_repeats(rows([7], [0]), None) == []


CONFIG = {
    "model": {
        "dim": 4,
        "towers": {
            "image": {
                "preprocess": {"class_path": "align.preprocess.Image", "init_args": {"size": 8}},
                "encoder": {
                    "class_path": "align.encoders.ImageCNN",
                    "init_args": {"width": 8, "widths": [8, 8], "stem": 2},
                },
                "head": "align.heads.Linear",
            },
            "text": {
                "preprocess": {"class_path": "align.preprocess.Bytes", "init_args": {"context": 16}},
                "encoder": {
                    "class_path": "align.encoders.TransformerText",
                    "init_args": {"vocabulary": 259, "context": 16, "width": 8, "depth": 1, "heads": 1},
                },
                "head": "align.heads.Linear",
            },
        },
    },
    "objective": {"terms": {"pairs": {"loss": "align.losses.InfoNCE", "between": "all"}}},
    "trainer": {"accelerator": "cpu", "logger": False, "max_steps": 1},
}


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("bare", "equal captions: 12 of the 12 text rows of the first batch equal another sample's, and no group"),
        ("grouped", ""),
        pytest.param("foreign", "equal captions: 12 of the 12 text rows", marks=pytest.mark.sweep),
        pytest.param("apart", "", marks=pytest.mark.sweep),
        ("mixed", "joins the two (sources: bare 6)"),
    ],
)
def test_a_run_says_it_in_one_line_at_its_start(tmp_path, monkeypatch, capsys, kind, line):
    monkeypatch.chdir(tmp_path)
    for name in ("bare", "grouped", "apart"):
        with ShardWriter(name) as writer:
            for i in range(12):
                about = {"group": i % 2} if name == "grouped" else {}
                text = f"{name} {i}" if name == "apart" else f"{name} {i % 2}"
                members = {"image.png": png(i), "text.txt": text.encode(), "json": json.dumps(about).encode()}
                writer.write(f"{i}", members)
    tar(tmp_path / "foreign" / "a.tar", {f"{i}.{s}": d for i in range(12) for s, d in (("jpg", png(i)), ("txt", b"x"))})
    train = (
        {name: {"urls": f"{name}/*.tar"} for name in ("bare", "apart")}
        if kind == "mixed"
        else f"{kind.split(',')[0]}/*.tar"
    )
    loss = "align.losses.VICReg" if "without" in kind else "align.losses.InfoNCE"
    terms = {"pairs": {"loss": loss, "between": "all"}}
    config = CONFIG | {"objective": {"terms": terms}, "data": {"train": train, "batch": 12, "workers": 0}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    assert main(["train", "--config", "c.yaml", "--run", "run"]) == 0, capsys.readouterr().err
    said = [text for text in capsys.readouterr().err.splitlines() if "equal captions" in text]
    assert len(said) == bool(line)
    assert line in "".join(said)
