"""A tower of published text weights in training: rows that are dicts, data workers, a resumed run, another folder."""

import csv
import json
import shutil

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
