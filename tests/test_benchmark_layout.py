"""CLIP_benchmark's layout as its exporter writes it, and texts with a caption a line elsewhere."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
import tiny_space
import torch
import torch.nn.functional as F
from PIL import Image

from align.checkpoint import save
from align.commands import main
from align.data import Shards
from align.evaluation import Space, evaluate
from align.model import JointModel, Tower
from align.preprocess import Bytes
from align.preprocess import Image as Preprocess

COLOURS = {"bbb": (250, 10, 10), "ccc": (10, 250, 10), "ddd": (10, 10, 250)}


def picture(colour) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(out, "WEBP", lossless=True)
    return out.getvalue()


def model() -> JointModel:
    towers = {
        "image": Tower(Preprocess(size=8), tiny_space.Colours(), tiny_space.Pass),
        "text": Tower(Bytes(context=64), tiny_space.Letters(), tiny_space.Pass),
    }
    return JointModel(towers, tiny_space.D).eval()


def export(folder, samples, *, kind="", classes=(), templates=(), split="test", each=2):
    """Write what ``clip_benchmark_export_wds`` writes, by webdataset's own writer. samples: (image, label or texts)."""
    from webdataset import ShardWriter

    (folder / split).mkdir(parents=True)
    for name, lines in (("classnames", classes), ("zeroshot_classification_templates", templates)):
        if lines:
            (folder / f"{name}.txt").write_text("\n".join([*lines, ""]))
    if kind:
        (folder / "dataset_type.txt").write_text(kind + "\n")
    sink = ShardWriter(str(folder / split / "%d.tar"), maxcount=each, verbose=0)
    for i, (image, label) in enumerate(samples):
        member = {"": "cls", "multilabel": "npy", "retrieval": "txt"}[kind]
        content = "\n".join(line.replace("\n", r"\n") for line in label) if kind == "retrieval" else label
        sink.write({"__key__": f"s{i:07d}", "webp": image, member: content})
    written = sink.shard
    sink.close()
    (folder / split / "nshards.txt").write_text(f"{written}\n")
    return folder


@pytest.fixture
def single(tmp_path):
    samples = [(picture(COLOURS[c]), "bcd".index(c[0])) for c in ("bbb", "ccc", "ddd", "bbb", "ddd")]
    return export(tmp_path / "single", samples, classes=["bbb", "ccc", "ddd"], templates=["a {c}.", "the {c} eee"])


def test_one_label_a_sample(single):
    shards = Shards(str(single / "test"), shuffle=False)
    assert [path.name for path in shards.urls] == ["0.tar", "1.tar", "2.tar"]
    assert shards.classes == {"label": ["bbb", "ccc", "ddd"]}
    space = Space(model(), shards)
    assert space.table().labels == ["bbb", "ccc", "ddd", "bbb", "ddd"]
    assert space.templates == {"label": ["a {}.", "the {} eee"]}
    found = evaluate(space.model, shards)
    images = space.table()["image"].values
    right = 0
    for i, label in enumerate(space.table().labels):
        scores = []
        for name in ("bbb", "ccc", "ddd"):
            rows = space.model.embed(text=[f"a {name}.", f"the {name} eee"])["text"]
            scores.append(float(F.normalize(rows.mean(dim=0), dim=0) @ images[i]))
        better = [s for s in scores if s >= scores["bcd".index(label[0])]]
        right += len(better) == 1
    assert found.scores["zeroshot/label/image/accuracy"] == right / 5
    assert found.protocol["templates"] == {"label": ["a {}.", "the {} eee"]}
    chosen = evaluate(space.model, shards, templates=["{}"])
    assert chosen.protocol["templates"] == {"label": ["{}"]}


def test_equal_names_and_names_that_are_numbers_keep_their_places(tmp_path):
    blank = picture((9, 9, 9))
    twice = export(tmp_path / "twice", [(blank, i) for i in range(4)], classes=["bbb", "ccc", "bbb", "ddd"])
    space = Space(model(), Shards(str(twice / "test"), shuffle=False))
    assert space.table().labels == ["bbb", "ccc", "bbb", "ddd"]
    assert list(space.classes["label"]) == ["bbb", "ccc", "ddd"]
    angles = export(tmp_path / "angles", [(blank, i) for i in range(3)], classes=["0", "20", "2"])
    space = Space(model(), Shards(str(angles / "test"), shuffle=False))
    assert space.table().labels == ["0", "20", "2"]


def test_several_labels_a_sample(tmp_path):
    labels = [torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])]
    samples = [(picture(COLOURS["bbb"]), label.numpy()) for label in labels]
    folder = export(tmp_path / "several", samples, kind="multilabel", classes=["bbb", "ccc", "ddd"])
    shards = Shards(str(folder / "test"), shuffle=False)
    table = Space(model(), shards).table()
    assert table.labels == [["bbb", "ddd"], [], ["ccc"]]
    assert not shards.ignored
    out = io.BytesIO()
    np.save(out, np.array([0, 2, 1]))
    odd = tiny_space.write_tar(tmp_path / "odd.tar", {"a": {"npy": out.getvalue()}, "b": {"npy": b"\x93NUMPY"}})
    read = Shards(str(odd), shuffle=False, members={"label": "npy"})
    assert read.classes == {}
    plain = Shards(str(odd), shuffle=False)
    assert plain.ignored == {"npy": 2}


CAPTIONS = [["a bbb", "the bbb bbb"], ["one ccc", "", "ccc\nddd"], ["ddd"]]


@pytest.fixture
def captioned(tmp_path):
    samples = [(picture(COLOURS[c]), texts) for c, texts in zip(COLOURS, CAPTIONS, strict=True)]
    return export(tmp_path / "captioned", samples, kind="retrieval")


def test_a_caption_a_line(captioned, capsys, tmp_path):
    shards = Shards(str(captioned / "test"), shuffle=False)
    table = Space(model(), shards).table()
    assert table["text"].sample.tolist() == [0, 0, 1, 1, 2]  # the blank line is no row
    expected = model().embed(text=["a bbb", "the bbb bbb", "one ccc", r"ccc\nddd", "ddd"])["text"]
    assert torch.equal(table["text"].values, expected)
    found = evaluate(model(), shards, with_=["retrieval"])
    assert found.protocol["members"]["text"] == ["txt:lines"]
    assert found.protocol["rows"] == {"image": 3, "text": 5}
    assert len(found.samples["text_to_image/recall@1"][0]) == 5
    assert len(found.samples["image_to_text/recall@1"][0]) == 3
    assert main(["shards", "show", str(captioned / "test"), "--samples", "2"]) == 0
    assert "a bbb | the bbb bbb" in capsys.readouterr().out
    assert main(["shards", "check", str(captioned / "test")]) in (0, 3)
    out = capsys.readouterr().out
    assert "ignored" not in out


def test_lines_elsewhere_only_where_they_are_asked_for(captioned, tmp_path):
    plain = tmp_path / "plain"
    plain.mkdir()
    for path in (captioned / "test").glob("*.tar"):
        path.rename(plain / f"set-{int(path.stem):06d}.tar")
    urls = str(plain / "set-*.tar")
    assert Space(model(), Shards(urls, shuffle=False)).table()["text"].n == 3
    asked = Shards(urls, shuffle=False, members={"text": "txt:lines"})
    assert Space(model(), asked).table()["text"].n == 5
    save(model(), tmp_path / "m")
    command = ["evaluate", str(tmp_path / "m"), urls, "--allow", "tiny_space", "--no-report", "--draws", "0"]
    assert main([*command, "--members", "text=txt:lines", "--out", str(tmp_path / "r")]) == 0
    assert json.loads((tmp_path / "r" / "results.json").read_text())["protocol"]["rows"]["text"] == 5
    assert main(["shards", "build", urls, str(tmp_path / "b"), "--members", "text=txt:lines"]) == 0
    built = Shards(str(tmp_path / "b" / "*.tar"), shuffle=False)
    assert [s["text.txt"].decode().split("\n") for s in built.samples(0)] == [
        ["a bbb", "the bbb bbb"],
        ["one ccc", r"ccc\nddd"],
        ["ddd"],
    ]
    assert Space(model(), built).table()["text"].n == 5


def test_lines_that_are_blank_are_a_hole(tmp_path):
    tar = tiny_space.write_tar(tmp_path / "a.tar", {"a": {"txt": b" \n\n", "webp": picture((1, 2, 3))}})
    shards = Shards(str(tar), shuffle=False, members={"text": "txt:lines"}, max_bad=1)
    space = Space(model(), shards)
    assert space.table()["text"].n == 0
    assert shards.report() == {"text/blank": 1}


@pytest.mark.parametrize("name", ["txt:line", "txt:", "npz:caption", ":lines2"])
def test_another_mark_is_refused(tmp_path, name):
    tar = tiny_space.write_tar(tmp_path / "a.tar", {"a": {"txt": b"a"}})
    with pytest.raises(ValueError, match="json:KEY for a key of the json, or txt:lines"):
        Shards(str(tar), members={"text": [name]})


def test_evaluate_takes_the_folder_as_it_stands(single, tmp_path, capsys):
    save(model(), tmp_path / "m")
    export(single, [(picture((1, 1, 1)), 0)], split="train")
    command = ["--allow", "tiny_space", "--out", str(tmp_path / "r"), "--no-report", "--draws", "0"]
    assert main(["evaluate", str(tmp_path / "m"), str(single), *command]) == 0
    results = json.loads((tmp_path / "r" / "results.json").read_text())
    assert results["protocol"]["samples"] == 5
    assert results["protocol"]["templates"] == {"label": ["a {}.", "the {} eee"]}
    assert "zeroshot/label/image/accuracy" in results
    capsys.readouterr()
    assert main(["shards", "show", str(single)]) == 1
    assert f"{single} has the splits test, train; name one of them: {single / 'test'}" in capsys.readouterr().err


def test_what_is_wrong_with_such_a_folder_is_one_line(single):
    (single / "test" / "1.tar").rename(single / "test" / "9.tar")
    with pytest.raises(FileNotFoundError, match=r"1\.tar is missing: nshards\.txt beside it counts 3 shards"):
        Shards(str(single / "test"))
    (single / "test" / "9.tar").rename(single / "test" / "1.tar")
    (single / "test" / "nshards.txt").write_text("many")
    with pytest.raises(ValueError, match="holds 'many'; it holds the number of shards"):
        Shards(str(single / "test"))
    (single / "test" / "nshards.txt").write_text("3")
    (single / "zeroshot_classification_templates.txt").write_text("a photo\n")
    with pytest.raises(ValueError, match=r"a template has one \{c\} for the class name, not 'a photo'"):
        Shards(str(single / "test"))
    (single / "dataset_type.txt").write_text("detection")
    with pytest.raises(ValueError, match="says 'detection'; it is retrieval or multilabel"):
        Shards(str(single / "test"))


def test_such_a_folder_on_a_server(captioned):
    from web import serving

    with serving(captioned) as web:
        shards = Shards(f"{web.url}/test/{{0..1}}.tar", shuffle=False)
        assert shards.benchmark is not None
        assert shards.benchmark.type == "retrieval"
        assert Space(model(), shards).table()["text"].n == 5
        shards.close()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"bbb\n\nddd\n", "classnames.txt: line 2 is empty; a label is the place of a line"),
        (b"\xff\xfe\nccc\nddd", "classnames.txt is not UTF-8: invalid start byte at byte 0"),
    ],
)
def test_class_names_whose_places_or_letters_are_lost_are_refused(single, content, says):
    (single / "classnames.txt").write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(says)):
        Shards(str(single / "test"), shuffle=False)
