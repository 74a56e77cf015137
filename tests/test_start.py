"""A run that starts from another model, the config that fine-tunes a published one, and the table of a dry run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import open_clip_models
import pytest
import tiny_data
import torch
from jsonargparse import ArgumentParser
from test_lit import train
from tiny import Dense, made, write
from torch import nn

import align
from align import JointModel, Objective, Term, Tower
from align.checkpoint import save, start_from
from align.commands import main
from align.commands.config import parse_args
from align.commands.errors import Refused
from align.encoders.weights import read_tensors
from align.lit.parts import list_parts
from align.losses import InfoNCE, SigLIP
from align.optim import Optim
from align.preprocess import Array
from align.tuning import Tuning, apply
from align.values import TermInfo

pytestmark = pytest.mark.slow

CONFIG = str(Path(align.__file__).parent.parent / "configs" / "finetune.yaml")


class Deep(nn.Module):
    """Another encoder of the same rows."""

    def __init__(self, width: int = 6):
        super().__init__()
        self.width, self.one, self.two = width, nn.Linear(6, 6), nn.Linear(6, width)

    def forward(self, values):
        return align.Features(self.two(self.one(values)))


def towers(**encoders: nn.Module) -> JointModel:
    return JointModel({m: Tower(Array((6,)), encoder) for m, encoder in encoders.items()}, 4)


def objective(loss: nn.Module, *between: str) -> Objective:
    return Objective({"clip": Term(loss, list(between))}, dim=4, batch=8, modalities=["image", "text", "audio"])


def number(terms: Objective, name: str) -> float:
    return getattr(terms.losses["clip"], name).item()


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A model folder with a trained term."""
    torch.manual_seed(1)
    model = towers(image=Dense(), text=Dense(), video=Dense())
    model.terms = [TermInfo(("image", "text"), "pairwise", 42.0, -3.0)]
    return save(model, tmp_path_factory.mktemp("earlier") / "model")


def test_parts_of_the_same_layers_are_taken_and_a_line_says_of_each(earlier):
    torch.manual_seed(0)
    model = towers(image=Dense(), text=Deep(), audio=Dense())
    was = {n: p.detach().clone() for n, p in model.named_parameters()}
    loss = objective(SigLIP(), "image", "text")
    started = start_from(model, loss, str(earlier))
    theirs = read_tensors(earlier / "model.safetensors")
    for name, p in model.named_parameters():
        taken = name.startswith(("towers.image.", "towers.text.head."))
        assert torch.equal(p, theirs[name] if taken else was[name]), name
    assert started.taken == dict.fromkeys(["image.encoder", "image.head", "text.head"], str(earlier))
    assert started.lines == [
        f"weights of {earlier}: image.encoder, image.head, text.head, scale 42 and bias -3 of clip",
        f"begins anew: text.encoder ({earlier} has other layers there)",
        f"begins anew: audio.encoder, audio.head ({earlier} has no such tower)",
        f"left out of {earlier}: video (the model has no such tower)",
    ]
    assert number(loss, "scale") == pytest.approx(42)
    assert number(loss, "bias") == pytest.approx(-3)


@pytest.mark.parametrize(
    ("loss", "between", "scale"),
    [
        (InfoNCE(), ("image", "text"), 42),
        (InfoNCE(max_scale=30), ("image", "text"), 30),
        (InfoNCE(start_scale=7), ("image", "text"), 7),
        (InfoNCE(), ("image", "audio"), 1 / 0.07),
    ],
)
def test_a_scale_begins_at_the_starts_unless_the_config_states_it(earlier, loss, between, scale):
    terms = objective(loss, *between)
    start_from(towers(image=Dense(), text=Dense(), audio=Dense()), terms, str(earlier))
    assert number(terms, "scale") == pytest.approx(scale)


@pytest.mark.parametrize(
    ("encoders", "says"),
    [
        ({"image": Dense(width=5)}, r"image\.encoder\.net\.0\.weight is \(6, 6\) there and \(5, 6\) in this model"),
        ({"audio": Dense()}, "has no part that fits: it has image.encoder, .*video.head, the model has audio.encoder"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(earlier, encoders, says):
    with pytest.raises(ValueError, match=says):
        start_from(towers(**encoders), objective(InfoNCE(), "image", "text"), str(earlier))


def test_a_run_that_is_there_goes_on_and_says_that_its_start_is_not_read(tmp_path, capsys):
    shards = write(write(tmp_path / "shards"), "test", 20)
    model, _ = made(seed=3)
    start = str(save(model, tmp_path / "model"))
    train(shards, tmp_path / "run", 1, val=False, start=start)
    assert "weights of " in capsys.readouterr().err
    train(shards, tmp_path / "run", 2, val=False, start=str(tmp_path / "gone"))
    err = capsys.readouterr().err
    assert f"goes on from step 1; start {tmp_path / 'gone'} is not read" in err
    with pytest.raises(FileNotFoundError, match="gone"):
        train(shards, tmp_path / "other", 1, val=False, start=str(tmp_path / "gone"))
    assert not (tmp_path / "other").exists()


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A small model of open_clip as the hub has it, and shards of pairs."""
    import open_clip

    folder = tmp_path_factory.mktemp("published")
    config = {"embed_dim": 64, "vision_cfg": open_clip_models.VIT, "text_cfg": open_clip_models.TEXT}
    (folder / "tiny-start.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / "tiny-start.json")
    saved = open_clip_models.save_folder(open_clip_models.make("tiny-start"), "tiny-start", folder / "saved")
    (saved / "README.md").write_text("---\nlicense: mit\n---\n")

    def pair(i):
        return {n: data for n, data in tiny_data.members(i).items() if n in ("image.png", "text.txt", "json")}

    tiny_data.write(folder / "shards", 24, make=pair)
    tiny_data.write(folder / "shards", 12, split="test", make=pair)
    return folder


@pytest.fixture
def command(published, monkeypatch, tmp_path):
    monkeypatch.setenv("ALIGN_CACHE", str(published / "cache"))
    monkeypatch.chdir(tmp_path)
    shards = published / "shards"
    return [
        *("train", "--config", CONFIG, "--start", f"open_clip:{published / 'saved'}"),
        *("--data.train", str(shards / "train-*.tar"), "--data.val", str(shards / "test-*.tar")),
        *("--data.batch", "8", "--data.workers", "0", "--trainer.logger", "false", "--trainer.accelerator", "cpu"),
    ]


def test_a_dry_run_prints_the_parts_and_writes_nothing(command, published, tmp_path, capsys):
    more = ["--tuning.layer_decay", "{image: 0.5}", "--optim.groups", "{model.towers.text.*: {lr: 0.1}}"]
    assert main([*command, "--run", str(tmp_path / "run"), "--dry-run", *more]) == 0
    out = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 100 for line in out)
    assert out[0].split() == ["part", "parameters", "trained", "rate", "weights", "of", "licence"]
    rows = {line.split("  ")[0].strip() or line.strip().split("  ")[0]: line.split() for line in out}
    assert rows["image.encoder"][1:4] == ["153,856", "0", "frozen"]
    assert rows["image.encoder"][-1] == "mit"
    adapters = [line for line in out if line.startswith("  adapters, rank 8 in 6 layers")]
    assert [line.split()[6:] for line in adapters] == [
        ["16,384", "16,384", "5e-05", "to", "0.0001", "[1]"],
        ["16,384", "16,384", "1e-05", "[2]"],
    ]
    assert rows["objective.clip"][1:] == ["1", "1", "0.0001"]
    assert rows["all"][1:] == ["3,453,953", "32,769"]
    assert out[-2:] == [
        "[1] optim.lr x tuning.layer_decay.image",
        "[2] optim.groups.model.towers.text.*",
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.sweep
def test_the_config_fine_tunes_a_published_model(command, tmp_path, capsys):
    run = tmp_path / "run"
    assert main([*command, "--run", str(run), "--trainer.max_steps", "3"]) == 0
    assert ": image.encoder, text.encoder, scale " in capsys.readouterr().err
    with (run / "metrics.csv").open(newline="") as f:
        rows = list(csv.DictReader(f))
    scores = [name for name in rows[0] if name.startswith("val/retrieval/")]
    assert scores
    assert rows[0]["step"] == "0"
    assert all(rows[0][name] for name in scores)  # the published model's, before the first step
    parts = json.loads((run / "model" / "model.json").read_text())["parts"]
    assert {part: about["changed"] for part, about in parts.items()} == {"image.encoder": True, "text.encoder": True}
    assert align.load(run).embed(text=["a cat"])["text"].shape == (1, 64)
    assert not any("lora" in name for name in read_tensors(run / "model" / "model.safetensors"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--tuning.freeze", "[imag.encoder]"], "did you mean image.encoder?"),
        (["--tuning.lora", "{image.encoder: {rank: 0}}"], "rank of tuning.lora is at least 1; got 0"),
        (["--start", "open_clip:nowhere"], "open_clip"),
    ],
)
def test_bad_settings_are_one_line_and_write_nothing(command, tmp_path, capsys, options, says):
    assert main([*command, "--run", str(tmp_path / "run"), *options]) in (1, 2)
    err = capsys.readouterr().err.splitlines()
    assert says in err[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_config_without_towers_and_start_says_what_it_lacks(tmp_path, capsys):
    (tmp_path / "c.yaml").write_text("data: {train: x.tar}\nobjective: {terms: {}}\n")
    assert main(["train", "--config", str(tmp_path / "c.yaml"), "--run", str(tmp_path / "run")]) == 1
    assert "names no model.towers and no start to take them from" in capsys.readouterr().err


def test_a_trained_tower_stands_in_a_config_by_its_path(command, published, tmp_path, capsys):
    folder = f"open_clip:{published / 'saved'}"
    tower = f"{{class_path: align.load_tower, init_args: {{folder: '{folder}', modality: text}}}}"
    (tmp_path / "c.yaml").write_text(
        f"model: {{dim: 64, towers: {{text: {tower}, words: {tower}}}}}\n"
        "objective: {terms: {clip: {loss: align.losses.InfoNCE, between: [text, words]}}}\n"
        "data: {train: x.tar}\ntuning: {freeze: [words]}\n"
    )
    assert main(["train", "--config", str(tmp_path / "c.yaml"), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[1:4] for line in out.splitlines() if ".encoder" in line] == [
        ["3,267,328", "3,267,328", "0.001"],
        ["3,267,328", "0", "frozen"],
    ]


def test_a_dry_run_has_the_rate_of_the_batch_and_checks_the_rest(command, capsys):
    assert main([*command, "--dry-run", "--optim.lr_batch", "2"]) == 0  # data.batch is 8
    table = capsys.readouterr()
    assert [line.split()[-1] for line in table.out.splitlines() if line.startswith("objective.clip")] == ["0.0004"]
    assert "a batch of 8 has 0.0004" in table.err
    assert main([*command, "--dry-run", "--compute.compile", "[imag]"]) == 1
    assert "'imag'" in capsys.readouterr().err
    assert main([*command, "--dry-run", "--trainer.logger", "tensorbord"]) == 1
    assert "did you mean 'tensorboard'" in capsys.readouterr().err


def test_a_dry_run_names_the_model_of_a_loaded_tower(earlier, capsys, tmp_path):
    towers = {m: align.load_tower(earlier, m, allow=["tiny"]) for m in ("image", "text")}
    total = objective(InfoNCE(), "image", "text")
    model = JointModel(dict(towers), 4)
    parts = {part.name: part.weights for part in list_parts(model, total, Optim(), apply(model, Tuning()), {})}
    assert parts["image.encoder"] == parts["text.head"] == str(earlier)
    assert parts["objective.clip"] == ""
    assert align.load(align.save(model, tmp_path / "m"), allow=["tiny"]).towers["image"].loaded_from is None


def test_an_unquoted_pattern_is_named():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--train", type=str)
    with pytest.raises(Refused, match=r"unrecognized arguments: a-1\.tar a-2\.tar; quote a pattern"):
        parse_args(parser, ["--train", "a-0.tar", "a-1.tar", "a-2.tar"])
