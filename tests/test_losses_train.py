"""Every loss, from a config fragment, trains on the quickstart's world: real pictures, clouds, sounds and words."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

import pytest
import yaml
from quick import small_run
from test_family import documented
from test_lit import rows

import align.quickstart
from align.commands import main

pytestmark = pytest.mark.sweep

wrapped = "{class_path: align.losses.%s, init_args: {loss: {class_path: align.losses.%s}%s}}"
FRAGMENTS = {
    name: text
    for name, text in documented().items()
    if "teacher" not in text  # a teacher's features are not in this world; they train in test_family
} | {
    "InfoNCE": "{terms: {t: {loss: align.losses.InfoNCE, between: all}}}",
    "InfoNCE, focal": "{terms: {t: {loss: {class_path: align.losses.InfoNCE, init_args: {focal: 1.0}}, between: all}}}",
    "SigLIP": "{terms: {t: {loss: align.losses.SigLIP, between: all}}}",
    "Symile": "{terms: {t: {loss: align.losses.Symile, between: [image, points, text]}}}",
    "Symile, partial": "{terms: {t: {loss: {class_path: align.losses.Symile, init_args: {negatives: partial, "
    "missing: learned, spread: 0.5}}, between: all}}}",
    "Symile and pairs": "{terms: {pairs: {loss: align.losses.InfoNCE, between: all}, "
    "t: {loss: {class_path: align.losses.Symile, init_args: {negatives: shuffled}}, between: all}}}",
    "LateInteraction": "{terms: {t: {loss: align.losses.LateInteraction, between: [image, text]}}}",
    "Transport": "{terms: {t: {loss: align.losses.Transport, between: [image, text]}}}",
    "Matryoshka": "{terms: {t: {loss: %s, between: all}}}" % (wrapped % ("Matryoshka", "InfoNCE", ", dims: [16, 64]")),
    "MixGeodesic": "{terms: {t: {loss: %s, between: all}}}" % (wrapped % ("MixGeodesic", "InfoNCE", "")),
    "HardNegatives": "{terms: {t: {loss: %s, between: all}}}" % (wrapped % ("HardNegatives", "SigLIP", ", weight: 2")),
    "MemoryQueue": "{terms: {t: {loss: %s, between: all}}}" % (wrapped % ("MemoryQueue", "InfoNCE", ", size: 16")),
}


@pytest.mark.parametrize("name", FRAGMENTS)
def test_it_trains(name, tmp_path, monkeypatch):
    config = yaml.safe_load((Path(align.quickstart.__file__).parent / "config.yaml").read_text())
    config["objective"] = yaml.safe_load(FRAGMENTS[name])
    shards = small_run() / "shards"
    config["data"] = {"train": f"{shards}/train-*.tar", "batch": 32, "workers": 0}
    config["trainer"] = {"max_steps": 60, "logger": False}
    if name == "MemoryQueue":  # past rows are of use where the model moves slowly
        config["optim"]["lr"] = 3e-4
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    assert main(["train", "--config", str(tmp_path / "c.yaml"), "--run", str(tmp_path / "run")]) == 0
    losses = [float(row["loss"]) for row in rows(tmp_path / "run")]
    assert mean(losses[-6:]) < 0.97 * mean(losses[3:6])  # a queue is filled by then
    assert align.load(tmp_path / "run").embed(text=["a red cube"])["text"].isfinite().all()
