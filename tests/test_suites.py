"""Suites: the data of their sets, and a model on miniatures of them as the recipes and CLIP_benchmark lay them out."""

from __future__ import annotations

import io
import json
import re
from math import isclose
from pathlib import Path

import numpy as np
import pytest
import tiny_space
import torch
from PIL import Image
from test_benchmark_layout import export

from align.checkpoint import save
from align.commands import main
from align.data import Shards
from align.evaluation import class_prompts, evaluate, prompts
from align.evaluation.suites import SUITES, Row, build_sections, choose_sets, find_set, read_rows, read_sets
from align.evaluation.suites.sets import parse_sets
from align.evaluation.suites.words import read_classes, read_templates
from align.model import JointModel, Tower
from align.preprocess import Array, Bytes
from align.preprocess import Image as Preprocess

ROOT = Path(__file__).parents[1]
CLASSES = ("airplane", "bird", "frog")
trust = ["--allow", "tiny_space"]


def model(*names: str) -> JointModel:
    towers = {
        "image": Tower(Preprocess(size=8), tiny_space.Colours(), tiny_space.Pass),
        "audio": Tower(Array([8]), tiny_space.Straight(), tiny_space.Pass),
        "points": Tower(Array([8]), tiny_space.Straight(), tiny_space.Pass),
        "text": Tower(Bytes(context=64), tiny_space.Letters(), tiny_space.Pass),
    }
    return JointModel({name: towers[name] for name in names or towers}, tiny_space.D).eval()


def png(i: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (40 * i % 256, 90 * i % 256, 200)).save(out, "PNG")
    return out.getvalue()


def samples(medium: str, label: str, names: tuple[str, ...], n: int, **about) -> dict[str, dict[str, bytes]]:
    """n samples as a recipe of classes writes them: a medium, a caption and a json with the label."""
    found = {}
    for i in range(n):
        content = png(i) if medium == "image.png" else tiny_space.npy(np.eye(8)[i % 8] + 0.1)
        said = {"label": {label: names[i % len(names)]}, "group": i % len(names), **about}
        found[f"{i:04d}"] = {medium: content, "text.txt": b"a thing", "json": json.dumps(said).encode()}
    return found


def write(folder: Path, split: str, content: dict[str, dict[str, bytes]], classes: dict[str, list[str]]) -> None:
    """A split with a manifest, as the recipes' ``write`` leaves it."""
    tiny_space.write_tar(folder / f"{split}-000000.tar", content)
    counts = {path.name: {"samples": len(content)} for path in folder.glob(f"{split}-*.tar")}
    known = folder / "manifest.json"
    before = json.loads(known.read_text())["shards"] if known.exists() else {}
    known.write_text(json.dumps({"classes": classes, "shards": before | counts}))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with models, and ``shards`` with miniatures of some sets, of which COCO is broken."""
    folder = tmp_path_factory.mktemp("suites")
    shards = folder / "shards"
    write(shards / "cifar10", "test", samples("image.png", "object", CLASSES, 7), {"object": list(CLASSES)})
    write(shards / "cifar10", "train", samples("image.png", "object", CLASSES, 3), {"object": list(CLASSES)})
    templates = [text.replace("{}", "{c}") for text in read_templates("cifar").words]
    fine = read_classes("cifar100").words
    export(shards / "wds_vtab-cifar100", [(png(i), i) for i in (0, 4, 9)], classes=fine, templates=templates)
    export(shards / "wds_flickr30k", [(png(i), [f"a {c}", f"the {c}"]) for i, c in enumerate("bcd")], kind="retrieval")
    for fold in (1, 2):
        content = samples("audio.npy", "sound", ("rain", "dog"), 4)
        content = {f"{fold}{key}": one for key, one in content.items()}
        write(shards / "esc50", f"fold{fold}", content, {"sound": ["rain", "dog"]})
    write(shards / "modelnet40", "test", samples("points.npy", "object", ("bed", "car"), 4), {"object": ["bed", "car"]})
    pair = samples("audio.npy", "category", ("dog", "cat"), 4)
    pair |= {f"p{k}": one for k, one in samples("points.npy", "category", ("dog", "cat"), 4).items()}
    for one in pair.values():
        del one["text.txt"]
    write(shards / "eshot", "test", pair, {"category": ["cat", "dog"]})
    (shards / "coco").mkdir()
    (shards / "coco" / "test-000000.tar").write_bytes(b"no tar" * 200)
    save(model(), folder / "whole")
    save(model("image", "text"), folder / "pictures")
    save(model("audio", "text"), folder / "sounds")
    return folder


@pytest.fixture
def run(place, monkeypatch, capsys):
    """(exit code, stdout, stderr) of ``align evaluate``, run in the folder of models and shards."""
    monkeypatch.chdir(place)

    def command(*args):
        capsys.readouterr()
        code = main(["evaluate", *map(str, args), *trust])
        return code, *capsys.readouterr()

    return command


# the data


def test_every_set_is_stated_whole():
    sets = read_sets()
    assert {one.suite for one in sets.values()} == set(SUITES)
    assert {name for name, one in sets.items() if one.suite == "image"} == {
        "cifar10",
        "cifar100",
        "imagenet",
        "flickr30k",
        "coco",
    }
    assert {"esc50", "urbansound8k", "vggsound", "audiocaps", "clotho"} <= set(sets)
    assert sum(name.startswith("scanobjectnn_") for name in sets) == 5
    assert {"modelnet40", "objaverse_lvis", "eshot"} <= set(sets)
    for one in sets.values():
        script = re.search(r"python (datasets/\w+\.py) \{folder\}", one.get)
        assert script is not None, one.name
        text = (ROOT / script[1]).read_text(encoding="utf-8")
        assert not one.attribute or f'"{one.attribute}"' in text, f"{one.name}: no attribute {one.attribute}"
        split = one.places[0].shards.partition("-")[0].rstrip("*")
        assert f'"{split}"' in text or f'f"{split}' in text, f"{one.name}: no split {split}"
        if one.classes:
            assert isclose(one.chance, 1 / len(read_classes(one.classes).words), rel_tol=0.01), one.name
        for published in one.published:
            assert published.source.startswith("https://")
            assert all(0 < value < 1 for value in published.scores.values())


def test_numbers_of_names_and_templates():
    kinds = {"cifar": 18, "imagenet": 80, "openshape": 64, "sound": 1}
    assert {name: len(set(read_templates(name).words)) for name in kinds} == kinds
    counts = {"cifar10": 10, "cifar100": 100, "imagenet": 998, "esc10": 10, "esc50": 50, "urbansound8k": 10}
    counts |= {"vggsound": 309, "modelnet40": 40, "scanobjectnn": 15, "objaverse_lvis": 1156}
    assert {name: len(read_classes(name).words) for name in counts} == counts
    assert not any("_" in word for name in counts for word in read_classes(name).words)
    assert read_templates("imagenet").words[0] == "a bad photo of a {}."
    with pytest.raises(ValueError, match=r"templates\.json has no 'x'; it has cifar"):
        read_templates("x")


GOOD = {"name": "a", "title": "A", "modalities": ["image"], "evaluators": ["zeroshot"], "places": [{"folder": "a"}]}
GOOD |= {"score": "s", "unit": "top-1", "shown": ["s"], "chance": 0.1, "get": "make {folder}"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "x.json, 'a': no key 'colour'"),
        ({"chance": "high"}, "x.json, 'a': chance is a float, not 'high'"),
        ({"score": "t"}, "x.json, 'a': it needs places, its score among those shown"),
        ({"places": [{"shards": "x"}]}, "x.json, 'a', places: the key 'folder' is missing"),
        ({"published": [{"model": "m", "source": "s", "scores": {"z": 1}}]}, "a published score is none of those"),
    ],
)
def test_a_wrong_set_is_named(change, message):
    assert parse_sets({"suite": "image", "sets": [GOOD]}, "x.json")[0].title == "A"
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_sets({"suite": "image", "sets": [GOOD | change]}, "x.json")


def test_sets_by_the_names_of_suites_and_by_their_own():
    assert len(choose_sets("all")) == len(read_sets())
    assert [one.name for one in choose_sets("esc50, cifar10")] == ["cifar10", "esc50"]
    assert [one.name for one in choose_sets("image,coco")] == [one.name for one in choose_sets("image")]
    with pytest.raises(ValueError, match="no suite or set 'imags'; did you mean image"):
        choose_sets("imags")


def test_the_first_place_with_shards_counts(place, tmp_path):
    sets = read_sets()
    found = find_set(sets["modelnet40"], place / "shards")
    assert found.place.note == "points drawn from the meshes, not OpenShape's clouds"
    assert find_set(sets["cifar100"], place / "shards").is_benchmark
    assert [p.name for p in find_set(sets["esc50"], place / "shards").shards] == [
        "fold1-000000.tar",
        "fold2-000000.tar",
    ]
    (tmp_path / "imagenet").mkdir()
    assert find_set(sets["imagenet"], tmp_path) == f"{tmp_path / 'imagenet'} has no val-*.tar"
    assert find_set(sets["eshot"], tmp_path) == f"no {tmp_path / 'eshot'}"


def test_published_numbers_are_marked_where_the_protocol_is_another():
    sets = choose_sets("cifar10,cifar100,esc50")
    row = Row("sha", "m")
    for one in sets:
        score = one.score.replace("{attribute}", one.attribute)
        row.add(one.name, one.attribute, {score: 0.5}, {score: (0.4, 0.6)}, {"differs": []})
    image, audio = build_sections(sets, {"m": row, "blind": Row("x", "x")})
    head, body = image.blocks[0].head, {line[0]: line[1:] for line in image.blocks[0].rows}
    assert list(head) == ["model", "CIFAR-10", "CIFAR-100"]
    assert next(iter(body)) == "m"
    assert body["m"] == [(0.5, (0.4, 0.6))] * 2
    assert body["CLIP ViT-L/14 (published)"] == [0.9569, "0.761 †"]  # CIFAR-100's names had underscores there
    assert body["chance"] == [0.1, 0.01]
    assert "blind" not in body
    published = {(line[0], line[2]): line[3] for line in image.blocks[-1].rows}
    assert published["CIFAR-10", "CLIP ViT-L/14"] == "the same"
    assert published["CIFAR-100", "CLIP ViT-L/14"] == "class names with underscores, as TFDS writes them"
    assert len(audio.blocks[1].head) == 3  # a model without a number in the suite has no column
    row.sets["cifar10"]["differs"] = ["7 of 10,000 samples"]
    again = build_sections(sets, {"m": row})[0]
    assert {line[0]: line[1:] for line in again.blocks[0].rows}["CLIP ViT-L/14 (published)"] == ["0.957 †", "0.761 †"]


# the command


def test_all_suites_of_a_model(run, tmp_path):
    code, out, err = run("whole", "--suite", "all", "--out", tmp_path, "--draws", "50", "--max-bad", "0.5")
    assert code == 1  # COCO's shard is broken
    content = json.loads((tmp_path / "suite.json").read_text())
    row = content["rows"]["whole"]
    measured = {name.partition("/")[0] for name in row if "/" in name}
    assert measured == {"cifar10", "cifar100", "flickr30k", "esc50", "modelnet40", "eshot"}
    left = row["protocol"]["left"]
    assert "failed: " in left["coco"]["why"]
    assert "test-000000.tar" in left["coco"]["why"]
    assert left["imagenet"]["get"].endswith("python datasets/imagenet.py shards/imagenet --source DIR")
    assert len(left) + len(measured) == len(read_sets())
    sets = row["protocol"]["sets"]
    assert sets["cifar10"]["differs"] == ["7 of 10,000 samples"]
    assert sets["cifar10"]["templates"] == 18
    assert sets["cifar10"]["classes"] == 10
    assert sets["cifar100"]["templates from"] == "zeroshot_classification_templates.txt beside the shards"
    assert sets["cifar100"]["differs"] == ["3 of 10,000 samples"]
    assert sets["modelnet40"]["differs"][0] == "points drawn from the meshes, not OpenShape's clouds"
    assert sets["esc50"]["samples"] == 8
    assert sets["flickr30k"]["rows"] == {"image": 3, "audio": 0, "points": 0, "text": 6}
    for name, about in sets.items():
        written = json.loads((tmp_path / about["results"]).read_text())
        ours = {k.partition("/")[2]: v for k, v in row.items() if k.startswith(f"{name}/")}
        assert ours == {k: v for k, v in written.items() if k not in ("protocol", "intervals")}
        assert (tmp_path / about["results"]).with_name("samples.safetensors").is_file()
    assert "cifar10/zeroshot/object/image/accuracy" in row["intervals"]
    assert "coco: left out, failed" in err
    for words in ("suite: image", "suite: audio", "suite: points", "CLIP ViT-B/32 (published)", "0.898 †", "chance"):
        assert words in out
    assert "python datasets/urbansound8k.py shards/urbansound8k" in out
    page = (tmp_path / "suite.html").read_text()
    assert "https://github.com/LAION-AI/CLIP_benchmark" in page
    assert "class names with underscores, as TFDS writes them" in page


def test_a_set_has_the_numbers_of_its_protocol(place, run, tmp_path):
    assert run("whole", "--suite", "cifar10,esc50", "--out", tmp_path, "--draws", "0")[0] == 0
    row = read_rows(tmp_path)["whole"]
    shards = Shards(str(place / "shards" / "cifar10" / "test-*.tar"), shuffle=False)
    words, texts = read_classes("cifar10").words, read_templates("cifar").words
    direct = evaluate(model(), shards, classes={"object": words}, templates=texts, with_=["zeroshot"], draws=0)
    ours = {k.removeprefix("cifar10/"): v for k, v in row.scores.items() if k.startswith("cifar10/")}
    assert ours == direct.scores
    assert set(ours) > {"zeroshot/object/image/accuracy", "zeroshot/object/image/accuracy@5"}
    ours = {k: v for k, v in row.scores.items() if k.startswith("esc50/")}
    assert isclose(ours["esc50/zeroshot/sound/audio/chance"], 1 / 50)


def test_each_model_adds_a_row(run, tmp_path):
    assert run("pictures", "--suite", "cifar10", "--out", tmp_path, "--draws", "0")[0] == 0
    code, out, _ = run("whole/", "--suite", "cifar10,esc50", "--out", tmp_path, "--draws", "0", "--no-report")
    assert code == 0
    rows = read_rows(tmp_path)
    assert list(rows) == ["pictures", "whole"]
    assert re.search(r"^pictures +0\.\d+$", out, re.M)
    assert re.search(r"^whole +0\.\d+$", out, re.M)
    assert (tmp_path / "suite" / "pictures" / "cifar10" / "results.json").is_file()
    code, out, err = run("pictures", "--suite", "esc50,cifar10", "--out", tmp_path, "--draws", "0", "--json")
    assert code == 0
    assert json.loads(out)["rows"]["pictures"]["protocol"]["left"]["esc50"]["why"] == (
        "it needs a tower of audio; this model has image, text"
    )
    assert "esc50: left out, it needs a tower of audio" in err


def test_other_weights_of_a_name_begin_their_row_anew(place, run, tmp_path):
    other = model("image", "text")
    with torch.no_grad():
        other.towers["image"].encoder.gain += 1
    save(model("image", "text"), place / "changing")
    run("changing", "--suite", "cifar10,flickr30k", "--out", tmp_path, "--draws", "0", "--no-report")
    (place / "shards" / "cifar10").rename(place / "away")
    try:
        run("changing", "--suite", "cifar10,flickr30k", "--out", tmp_path, "--draws", "0", "--no-report")
    finally:
        (place / "away").rename(place / "shards" / "cifar10")
    row = read_rows(tmp_path)["changing"]
    assert set(row.sets) == {"cifar10", "flickr30k"}  # a set that is gone keeps its number, and says so
    assert row.left["cifar10"]["why"] == "no shards/cifar10; the number is of an earlier command"
    save(other, place / "changing")
    run("changing", "--suite", "flickr30k", "--out", tmp_path, "--draws", "0", "--no-report")
    assert set(read_rows(tmp_path)["changing"].sets) == {"flickr30k"}


def test_only_too_many_bad_samples_is_code_3(place, run, tmp_path):
    broken = samples("image.png", "object", CLASSES, 30)
    for one in broken.values():
        one["image.png"] = b"no picture"
    write(tmp_path / "d" / "cifar10", "test", broken, {"object": list(CLASSES)})
    code, _, err = run("pictures", "--suite", "cifar10", "--data", tmp_path / "d", "--out", tmp_path, "--no-report")
    assert code == 3
    assert "cifar10: left out, failed: " in err


@pytest.mark.parametrize(
    ("args", "code", "line"),
    [
        (["--suite", "imgae"], 2, "--suite: no suite or set 'imgae'; did you mean image?"),
        (
            ["shards/cifar10/test-000000.tar", "--suite", "image"],
            2,
            "--suite image finds its shards in --data; leave",
        ),
        ([], 2, "name the shards to measure on, or a suite: --suite image"),
        (["shards/cifar10/test-000000.tar", "--data", "x"], 2, "--data is the folder of the sets of --suite, which is"),
        (["--suite", "image", "--data", "nowhere"], 1, "--data nowhere is no folder here; the recipes write to one"),
        (["--suite", "clotho"], 1, "nothing of clotho is in shards: no shards/clotho. Clotho: unpack the archives of"),
        (["--suite", "image", "--templates", "a {}"], 2, "--templates: the sets of a suite state their protocol"),
        (["--suite", "image", "--with", "probe"], 2, "--with: the sets of a suite state their protocol"),
        (["--suite", "cifar10", "--out", "bad"], 1, "suite.json is no suite.json that align evaluate --suite wrote"),
    ],
)
def test_bad_input_is_one_line(place, run, args, code, line):
    (place / "bad").mkdir(exist_ok=True)
    (place / "bad" / "suite.json").write_text('{"rows": 3}')
    got, _, err = run("pictures", *args)
    assert got == code
    assert line in err
    assert len(err.splitlines()) == 1


def test_a_model_without_the_towers_is_one_line(run):
    code, _, err = run("sounds", "--suite", "image")
    assert code == 1
    assert err.splitlines()[-1] == (
        "align: no set of image that is in shards fits sounds: it needs a tower of image; this model has audio, text"
    )


def test_prompts_are_embedded_in_parts(monkeypatch):
    names, texts = [f"{a}{b}" for a in "bcdef" for b in "bcd"], ["a {}", "the {} g", "{}"]
    whole = class_prompts(model(), names, texts)
    monkeypatch.setattr(prompts, "BLOCK", 7)
    assert torch.equal(class_prompts(model(), names, texts), whole)
    rows = [model().embed(text=[text.replace("{}", name) for text in texts])["text"].mean(dim=0) for name in names]
    assert torch.allclose(whole, torch.nn.functional.normalize(torch.stack(rows), dim=1), atol=1e-6)
