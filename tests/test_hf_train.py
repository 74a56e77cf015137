"""A tower of published text weights in training: rows that are dicts, data workers, a resumed run, another folder."""

import csv
import json
import re
import shutil
from pathlib import Path

import hf_models
import pytest
import tiny_data
import yaml

import align
from align.commands import main

IMAGE = {
    "preprocess": {"class_path": "align.preprocess.Image", "init_args": {"size": 8}},
    "encoder": {"class_path": "align.encoders.ImageCNN", "init_args": {"width": 8}},
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with shards, a small BERT and config.yaml, and the working directory."""
    monkeypatch.chdir(tmp_path)
    tiny_data.write(tmp_path / "shards", 24)
    hf_models.text(tmp_path / "bert", "bert")
    encoder = {"class_path": "align.encoders.HFText", "init_args": {"name": "bert", "pretrained": True, "context": 16}}
    config = {
        "model": {"dim": 8, "towers": {"image": IMAGE, "text": {"encoder": encoder}}},
        "objective": {"terms": {"clip": {"loss": "align.losses.InfoNCE", "between": ["image", "text"]}}},
        "data": {"train": "shards/train-*.tar", "batch": 8, "workers": 0},
        "trainer": {"accelerator": "cpu", "logger": False, "max_steps": 4},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


def losses(run):
    with open(f"{run}/metrics.csv", encoding="utf-8", newline="") as file:
        return [row["loss"] for row in csv.DictReader(file)]


def test_it_trains_resumes_and_needs_its_source_no_more(place):
    command = ["train", "--config", "config.yaml"]
    assert main([*command, "--run", "two", "--data.workers", "2"]) == 0
    assert main([*command, "--run", "one"]) == 0
    assert losses("one") == losses("two")
    assert main([*command, "--run", "one", "--trainer.max_steps", "5"]) == 0
    assert losses("one")[:4] == losses("two")
    (place / "bert").rename(place / "gone")
    shutil.move(place / "one", place / "moved")
    model = align.load("moved")
    assert model.embed(text=["a cat", "two dogs"])["text"].shape == (2, 8)
    tokens = model.preprocess["text"]
    assert (tokens.context, tokens.vocabulary) == (16, 223)
    part = json.loads((place / "moved" / "model" / "model.json").read_text())["parts"]["text.encoder"]
    assert part["changed"] is True
    assert main(["evaluate", "moved", "shards/train-*.tar", "--with", "retrieval", "--out", "results"]) == 0


@pytest.mark.sweep
def test_the_config_of_the_docs_trains(place):
    """The page's config, with weights of the same layouts that need no hub."""
    import timm
    from timm.models import save_for_hf

    page = (Path(__file__).parent.parent / "docs" / "published-models.md").read_text(encoding="utf-8")
    config = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)[0]
    (place / "towers.yaml").write_text(config)
    save_for_hf(timm.create_model("test_vit"), str(place / "vit"), model_config={"license": "apache-2.0"})
    (place / "bert" / "README.md").write_text("---\nlicense: mit\n---\n")
    image, text = (f"--model.towers.{name}.encoder.init_args" for name in ("image", "text"))
    other = [f"{image}.name", "test_vit", f"{image}.pretrained", "vit", f"{text}.name", "bert"]
    small = ["--data.train", "shards/train-*.tar", "--data.batch", "8", "--trainer.accelerator", "cpu"]
    command = ["train", "--config", "towers.yaml", "--run", "run", *other, *small]
    for steps in (2, 3):
        assert main([*command, "--trainer.max_steps", str(steps)]) == 0
    parts = json.loads((place / "run" / "model" / "model.json").read_text())["parts"]
    about = {name: (part["licence"], part["changed"]) for name, part in parts.items()}
    assert about == {"image.encoder": ("apache-2.0", True), "text.encoder": ("mit", True)}
    assert align.load("run").preprocess["text"].prefix == "query: "
    assert main(["evaluate", "run", "shards/train-*.tar", "--with", "retrieval"]) == 0
    assert json.loads((place / "run" / "results.json").read_text())["protocol"]["parts"] == parts
    assert "apache-2.0" in (place / "run" / "report.html").read_text()


def test_kept_batch_statistics_are_no_warning_of_lightning(place, recwarn):
    """An encoder that keeps its statistics says so itself."""
    page = yaml.safe_load((place / "config.yaml").read_text())
    page["model"]["towers"]["image"] = {
        "encoder": {"class_path": "align.encoders.TimmImage", "init_args": {"name": "test_efficientnet"}}
    }
    (place / "config.yaml").write_text(yaml.safe_dump(page))
    assert main(["train", "--config", "config.yaml", "--run", "norm", "--trainer.max_steps", "1"]) == 0
    assert not [one for one in recwarn if "eval mode" in str(one.message)]
