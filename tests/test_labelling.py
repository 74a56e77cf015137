"""``align embed --to fiftyone|label-studio``: each folder recomputed, and opened by the tools' own packages."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import zlib
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
import tiny_cache
import torch
from installing import install
from PIL import Image as Pil

import align
from align import JointModel, Tower, save
from align.commands import main
from align.convert.labelling import open_reading, write_fiftyone, write_label_studio
from align.convert.labelling.fiftyone import choose_file
from align.convert.labelling.names import name_fields
from align.data import ShardWriter
from align.encoders import ImageCNN, TransformerText
from align.evaluation.classify import Labelled
from align.media.shapes.mesh import read_cloud
from align.preprocess import Bytes, Image
from align.values import TermInfo

CLASSES = {"shape": ["cube", "ball"], "tone": ["red", "blue", "grey"]}
HOLE, BROKEN = 5, 3  # a sample without a picture; one whose cloud is no array
PACKAGES = {"fiftyone": ("fiftyone>=1.22,<2", "mongomock"), "label_studio": ("label-studio-sdk>=2,<3",)}


def make_model() -> JointModel:
    torch.manual_seed(0)
    towers = {
        "image": Tower(Image(16), ImageCNN(8, widths=[8])),
        "text": Tower(Bytes(16), TransformerText(259, 16, width=8, depth=1, heads=2)),
    }
    model = JointModel(towers, 4).eval()
    model.terms = [TermInfo(("image", "text"), "pairwise", 20.0)]
    return model


def members(i: int) -> dict[str, bytes]:
    """Members of sample i: a picture, a cloud, a sound that nobody reads, two captions, and labels."""
    draws, picture, cloud = np.random.default_rng(i), io.BytesIO(), io.BytesIO()
    Pil.fromarray(draws.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(picture, "png")
    np.save(cloud, draws.uniform(size=(30, 6 if i % 2 else 3)).astype(np.float32))
    label = {"shape": CLASSES["shape"][i % 2], "tone": ["red", "grey"] if i == 2 else "blue"}
    out = {"points.npy": b"no array" if i == BROKEN else cloud.getvalue(), "audio.flac": b"fLaC%d" % i}
    out |= {"text.txt": f"thing {i}\nit is <{i}>\n".encode(), "json": json.dumps({"label": label}).encode()}
    if i == HOLE:
        del out["points.npy"], out["audio.flac"]
    else:
        out |= {"image.0.png": picture.getvalue(), "image.1.png": b"", "image.neg.png": b""}
    return out


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with shards/train-*.tar, a later shard with the first key again, and a model."""
    folder = tmp_path_factory.mktemp("labelling")
    for name, numbers in (("train", range(6)), ("later", [6])):
        with ShardWriter(folder / name, per_shard=4) as writer:
            for i in numbers:
                writer.write(f"a b/k{i % 6}", members(i))
    save(make_model(), folder / "model")
    return folder


@pytest.fixture(scope="module")
def folders(place):
    """The two folders of the tools, as the command writes them, and what it printed."""
    said = {}
    for to in ("fiftyone", "label-studio"):
        said[to] = run(place, "--to", to, "--out", str(place / to), "--max-bad", "1", "--name", "tiny", "--batch", "4")
    return place, said


def run(place: Path, *args: str) -> str:
    """Run the command, and return what it prints on both streams."""
    shards = [str(place / name / "train-*.tar") for name in ("train", "later")]
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        code = main(["embed", str(place / "model"), *shards, *args])
    assert code == 0, said.getvalue()
    return said.getvalue()


def expect(place: Path, i: int) -> dict[str, Labelled]:
    """Return attribute -> the class of sample i's picture, by ``align.classify``."""
    model = align.load(place / "model")
    return {a: align.classify(model, names, image=[members(i)["image.0.png"]])[0] for a, names in CLASSES.items()}


def test_fiftyone(folders):
    place, said = folders
    out = place / "fiftyone"
    samples = json.loads((out / "samples.json").read_text())["samples"]
    numbers = [i for i in range(7) if i != HOLE]
    assert [s["key"] for s in samples] == [f"a b/k{i % 6}" for i in numbers]
    for i, sample in zip(numbers, samples, strict=True):
        have = members(i)
        assert (out / sample["filepath"]).read_bytes() == have["image.0.png"]
        assert (out / sample["audio_path"]).read_bytes() == have["audio.flac"]
        assert sample["captions"] == [f"thing {i}", f"it is <{i}>"]
        assert sample["shard"] == ("train-000000.tar" if i < 4 or i == 6 else "train-000001.tar")
        assert sample["label_shape"] == {"_cls": "Classification", "label": CLASSES["shape"][i % 2]}
        tones = [one["label"] for one in sample["label_tone"]["classifications"]]
        assert tones == (["red", "grey"] if i == 2 else ["blue"])
        vector = np.load(io.BytesIO(zlib.decompress(base64.b64decode(sample["embedding_image"]["$binary"]["base64"]))))
        rows = align.load(place / "model").embed(image=[have["image.0.png"]])["image"][0].numpy()
        assert vector.dtype == np.float32
        assert np.abs(vector - rows).max() < 1e-6
        for attribute, best in expect(place, i).items():
            found = sample[f"zeroshot_{attribute}_image"]
            assert found["label"] == best.label
            assert abs(found["confidence"] - (best.probabilities or {})[best.label]) < 1e-5
        if i == BROKEN:
            assert "points_path" not in sample
        else:
            cloud = np.load(io.BytesIO(have["points.npy"]))
            again = read_cloud(out / sample["points_path"], 0).points
            assert again.shape == cloud.shape
            assert np.abs(again[:, :3] - cloud[:, :3]).max() < 1e-6
            assert np.abs(again[:, 3:] - cloud[:, 3:]).max(initial=0) <= 0.5 / 255 + 1e-6
    assert json.loads((out / "metadata.json").read_text()) == {
        "name": "tiny",
        "media_type": "image",
        "info": {"classes": {f"label_{a}": sorted(names) for a, names in CLASSES.items()}},
    }
    assert {path.name for path in out.iterdir()} == {"metadata.json", "samples.json", "data", "fields"}
    assert len([path for path in (out / "data").rglob("*") if path.is_file()]) == 6
    assert said["fiftyone"].endswith(
        "left out: 1 sample without a file of image\nfiles left out: 1 points/not-npy\n"
        "image: 6 beside the first of their sample are left out\n"
        "audio: FiftyOne shows one file of a sample; audio_path names these\n"
        "points: FiftyOne shows one file of a sample; points_path names these\n"
        f"wrote 6 samples to {out}\n{out}\n"
    )


def test_label_studio(folders):
    place, said = folders
    out = place / "label-studio"
    tasks = json.loads((out / "tasks.json").read_text())
    config = ElementTree.fromstring((out / "config.xml").read_text())
    choices = {tag.get("name"): tag for tag in config.iter("Choices")}
    assert [(tag.tag, tag.get("value")) for tag in config][:3] == [
        ("Image", "$image"),
        ("Audio", "$audio"),
        ("Text", "$text"),
    ]
    assert [one.get("value") for one in choices["label_tone"]] == sorted(CLASSES["tone"])
    assert [choices[name].get("choice") for name in ("label_shape", "label_tone")] == ["single", "multiple"]
    assert [task["id"] for task in tasks] == [1, 2, 3, 4, 5, 6, 7]
    for i, task in enumerate(tasks):
        data, have = task["data"], members(i)
        assert set(data) == {"key", "shard", "image", "audio", "text"}
        assert data["text"] == f"thing {i}\nit is <{i}>"
        (labels,) = task["annotations"]
        tones = ["red", "grey"] if i == 2 else ["blue"]
        assert [one["value"]["choices"] for one in labels["result"]] == [[CLASSES["shape"][i % 2]], tones]
        if i == HOLE:
            assert data["image"] == data["audio"] == ""
            assert task["predictions"] == []
            continue
        for name, member in (("image", "image.0.png"), ("audio", "audio.flac")):
            path = data[name].removeprefix("/data/local-files/?d=")
            assert (out / unquote(path)).read_bytes() == have[member]
            assert " " not in path
        (guess,) = task["predictions"]
        best = expect(place, i)
        assert guess["model_version"] == "tiny image"
        assert abs(guess["score"] - min((one.probabilities or {})[one.label] for one in best.values())) < 1e-5
        for one in guess["result"]:
            assert one["value"]["choices"] == [best[one["from_name"].removeprefix("label_")].label]
            assert (one["to_name"], one["type"]) == ("image", "choices")
    assert said["label-studio"].endswith(
        "image: 6 beside the first of their sample are left out\n"
        f"points: Label Studio shows no clouds; they are left out\nwrote 7 samples to {out}\n{out}\n"
    )


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--features"], 2, "--features belongs to a cache; leave it out with --to fiftyone"),
        (["--tokens"], 2, "--tokens belongs to a cache; leave it out with --to fiftyone"),
        (["--stored", "float16"], 2, "--stored belongs to a cache; leave it out with --to fiftyone"),
        (["--executor", "ray"], 2, "--executor belongs to a cache; leave it out with --to fiftyone"),
        (["--towers", "imagee"], 1, "the model has no tower 'imagee'; did you mean image?"),
        (["--out", "{place}/model"], 1, "{place}/model is there and is not empty; name a new folder"),
        (["--out", "."], 1, ". has no name of its own; name a new folder"),
        ([], 3, "5 of 6 samples in this epoch are bad"),
    ],
)
def test_refusals(place, tmp_path, capsys, args, code, message):
    shards = str(place / "train" / "train-*.tar")
    out = ["--out", str(tmp_path / "out")] if "--out" not in args else []
    given = [arg.format(place=place) for arg in args]
    assert main(["embed", str(place / "model"), shards, "--to", "fiftyone", *out, *given]) == code
    assert message.format(place=place) in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []


def test_several_processes_are_refused(place, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    args = ["embed", str(place / "model"), "x.tar", "--out", str(tmp_path / "out"), "--to", "label-studio"]
    assert main(args) == 2
    assert "--to label-studio is written by one process; start it without torchrun" in capsys.readouterr().err


@pytest.mark.parametrize(("write", "shown"), [(write_fiftyone, "FiftyOne shows pictures"), (write_label_studio, "")])
def test_shards_that_cannot_be_shown(tmp_path, write, shown):
    shards = tiny_cache.write_shards(tmp_path / "shards")
    reading = read(tiny_cache.make_model(), shards)
    with pytest.raises(ValueError, match=shown or "none of the samples has a member that can be shown"):
        write(reading, tmp_path / "out", "tiny")
    assert {path.name for path in tmp_path.iterdir()} == {"shards"}


def read(model, shards):
    return open_reading(model, shards, towers=None, members=None, max_bad=1, batch=4, workers=0, progress=None)


def test_texts_without_labels(tmp_path):
    with ShardWriter(tmp_path / "shards", per_shard=4) as writer:
        writer.write("one", {"text.txt": b"a cube"})
    out = tmp_path / "out"
    written = write_label_studio(read(make_model(), tmp_path / "shards" / "train-000000.tar"), out, "tiny")
    assert written.notes == ["the shards have no labels and no classes, so config.xml asks for a text"]
    assert (out / "config.xml").read_text() == (
        '<View>\n  <Text name="text" value="$text" />\n  <TextArea name="note" toName="text" />\n</View>\n'
    )
    with pytest.raises(ValueError, match="is there and is not empty; name a new folder"):
        write_label_studio(read(make_model(), tmp_path / "shards" / "train-000000.tar"), out, "tiny")
    (task,) = json.loads((out / "tasks.json").read_text())
    assert task == {
        "id": 1,
        "data": {"key": "one", "shard": "train-000000.tar", "text": "a cube"},
        "predictions": [],
    }


def test_the_file_of_a_sample():
    assert (
        choose_file({"audio": "sound", "clip": "video", "depth": "picture", "image": "picture"}, {"depth": 3})
        == "depth"
    )
    assert choose_file({"points": "cloud", "clip": "video"}, {}) == "clip"
    assert choose_file({"points": "cloud", "audio": "sound"}, {}) == "points"
    with pytest.raises(ValueError, match="FiftyOne shows pictures, videos and clouds; the shards have text"):
        choose_file({}, {"text": 3})


def test_names_of_fields():
    assert name_fields(["label", "size (cm)", "größe"]) == {
        "label": "label",
        "size (cm)": "label_size_cm",
        "größe": "label_größe",
    }
    with pytest.raises(ValueError, match=r"the attributes 'a b' and 'a\.b' would both be the field label_a_b; rename"):
        name_fields(["a b", "a.b"])


@pytest.mark.sweep
def test_fiftyone_opens_its_folder(folders, tmp_path):
    """FiftyOne's own importer and its Dataset. mongomock stands for MongoDB's server, which no package brings."""
    say = f"import sys; sys.argv[1:] = [{str(folders[0] / 'fiftyone')!r}]\n" + FIFTYONE
    done = run_beside(say, PACKAGES["fiftyone"], tmp_path)
    dataset, samples = json.loads(done.splitlines()[-1])
    first = json.loads((folders[0] / "fiftyone" / "samples.json").read_text())["samples"]
    assert dataset["type"] == "image"
    assert dataset["classes"] == {f"label_{a}": sorted(names) for a, names in CLASSES.items()}
    assert dataset["fields"]["embedding_image"] == dataset["fields"]["embedding_text"] == "VectorField"
    assert [one["key"] for one in samples] == [one["key"] for one in first]
    for sample, wanted in zip(samples, first, strict=True):
        assert Path(sample["filepath"]) == folders[0] / "fiftyone" / wanted["filepath"]
        assert Path(sample["audio_path"]) == folders[0] / "fiftyone" / wanted["audio_path"]
        assert sample["shape"] == wanted["label_shape"]["label"]
        assert sample["tones"] == [one["label"] for one in wanted["label_tone"]["classifications"]]
        assert sample["guess"] == [wanted["zeroshot_shape_image"][name] for name in ("label", "confidence")]
        packed = base64.b64decode(wanted["embedding_image"]["$binary"]["base64"])
        assert np.allclose(sample["vector"], np.load(io.BytesIO(zlib.decompress(packed))))


@pytest.mark.sweep
def test_label_studio_takes_its_folder(folders, tmp_path):
    """Label Studio's own checks of the interface, the tasks, the annotations and the predictions, and its export."""
    say = (
        f"import sys; sys.argv[1:] = [{str(folders[0] / 'label-studio')!r}, {str(tmp_path / 'min')!r}]\n" + LABEL_STUDIO
    )
    done = run_beside(say, PACKAGES["label_studio"], tmp_path)
    exported = json.loads(done.splitlines()[-1])
    tasks = json.loads((folders[0] / "label-studio" / "tasks.json").read_text())
    assert [one["key"] for one in exported] == [task["data"]["key"] for task in tasks]
    assert [one["label_shape"] for one in exported] == [CLASSES["shape"][i % 2] for i in range(7)]
    assert exported[2]["label_tone"] == {"choices": ["red", "grey"]}


def run_beside(code: str, packages: tuple[str, ...], folder: Path) -> str:
    """Run code in an environment of its own with these packages, and return what it prints."""
    run = subprocess.run
    run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    python = str(folder / "venv" / "bin" / "python")
    install(python, *packages)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {"HOME": str(folder)}
    done = run([python, "-c", code], capture_output=True, text=True, env=env, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


FIFTYONE = """
import json, os
os.environ |= {"FIFTYONE_DATABASE_URI": "mongodb://localhost", "FIFTYONE_DISABLE_SERVICES": "1"}
os.environ |= {"FIFTYONE_DO_NOT_TRACK": "1", "FIFTYONE_SHOW_PROGRESS_BARS": "0"}
import mongoengine, mongomock, pymongo
from mongomock.store import ServerStore

store = ServerStore()

class Client(mongomock.MongoClient):
    _closed = False

    def __init__(self, *given, appname=None, **named):
        super().__init__(*given, **{**named, "_store": store})

pymongo.MongoClient, connect = Client, mongoengine.connect
mongoengine.connect = lambda name, **named: connect(name, mongo_client_class=Client, **named)
import fiftyone.core.odm.database
fiftyone.core.odm.database._validate_db_version = lambda *given: None
import fiftyone as fo

data = fo.Dataset.from_dir(dataset_dir=sys.argv[1], dataset_type=fo.types.FiftyOneDataset)
fields = {name: type(field).__name__ for name, field in data.get_field_schema().items()}
samples = [
    {
        **{name: one[name] for name in ("key", "filepath", "audio_path", "captions")},
        "shape": one.label_shape.label,
        "tones": [label.label for label in one.label_tone.classifications],
        "guess": [one.zeroshot_shape_image.label, one.zeroshot_shape_image.confidence],
        "vector": one.embedding_image.tolist(),
    }
    for one in data
]
print(json.dumps([{"type": data.media_type, "classes": data.classes, "fields": fields}, samples]))
"""

LABEL_STUDIO = """
import json
from label_studio_sdk.converter import Converter
from label_studio_sdk.label_interface import LabelInterface

folder, out = sys.argv[1:]
config = open(folder + "/config.xml").read()
interface = LabelInterface(config)
interface.validate()
for task in json.load(open(folder + "/tasks.json")):
    assert interface.validate_task({"data": task["data"]}), task
    for one in (*task["annotations"], *task["predictions"]):
        assert interface.validate_prediction(one, return_errors=True) == [], one
Converter(config=config, project_dir=folder, download_resources=False).convert_to_json_min(
    folder + "/tasks.json", out, is_dir=False
)
print(json.dumps(json.load(open(out + "/result.json"))))
"""
