"""Training: what a run writes, that it continues to the bit, and that the number of data workers changes nothing."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import pytest
import torch
from cut import Cut, Kill
from tiny import Dense, made, write

import align
from align.checkpoint import read_index
from align.lit import AlignData, Checkpoints, fit
from align.optim import AdamW

trainer = {"accelerator": "cpu", "precision": "64-true", "logger": False}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return write(write(folder), "test", 20)


def train(shards: Path, run: Path, steps: int, *, workers: int = 0, val: bool = True, seed: int = 0, **options):
    model, objective = made(dropout=0.2)
    options = {"optim": AdamW(lr=0.01), **options}
    pattern, max_bad = str(shards / "test-*.tar") if val else None, options.pop("max_bad", 0.001)
    data = AlignData(str(shards / "train-*.tar"), pattern, batch=12, workers=workers, max_bad=max_bad)
    given = {**trainer, "max_steps": steps, **options.pop("trainer", {})}
    return model, fit(model, objective, data, run, trainer=given, seed=seed, **options)


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as f:
        return list(csv.DictReader(f))


def exact(run: Path) -> dict[str, str]:
    """What must not change by a bit: weights, objective and optimiser of the last checkpoint, losses of every step."""
    last = run / "checkpoints" / read_index(run)["last"]
    files = ["model.safetensors", "training/objective.safetensors", "training/optimizer.safetensors"]
    hashes = {name: hashlib.sha256((last / name).read_bytes()).hexdigest() for name in files}
    return hashes | {"losses": str([(row["step"], row["loss"], row["grad_norm"]) for row in rows(run)])}


@pytest.fixture(scope="module")
def straight(shards, tmp_path_factory):
    """Ten steps without a stop."""
    run = tmp_path_factory.mktemp("straight")
    train(shards, run, 10)
    return run


def test_a_run_folder_holds_folders_of_safetensors_and_json(straight):
    names = {path.name for path in straight.rglob("*") if path.is_file()}
    assert {"metrics.csv", "index.json", "model.safetensors", "config.yaml", "state.json", "bad.json"} <= names
    assert {Path(name).suffix for name in names} <= {".safetensors", ".json", ".jsonl", ".yaml", ".csv"}
    state = json.loads(
        (straight / "checkpoints" / read_index(straight)["last"] / "training" / "state.json").read_text()
    )
    assert (state["schema"], state["step"]) == (3, 10)


def test_metrics_have_a_row_per_step_step_and_loss_first(straight):
    table = rows(straight)
    assert [int(row["step"]) for row in table] == list(range(1, 11))
    assert list(table[0])[:2] == ["step", "loss"]
    assert float(table[-1]["loss"]) < float(table[0]["loss"])
    for column in ("all", "all/scale", "all/audio-image", "lr", "grad_norm", "samples_per_second", "wait", "val/loss"):
        assert column in table[0], column
    validated = [int(row["step"]) for row in table if row["val/loss"]]
    assert validated == [4, 8, 10]  # each epoch of 48 // 12 steps, and the end
    assert 0 <= float(table[9]["val/image_to_text/recall@1"]) <= 1


def test_the_model_folder_is_the_best_checkpoint(straight):
    best = straight / "checkpoints" / read_index(straight)["best"]
    assert (straight / "model" / "model.safetensors").read_bytes() == (best / "model.safetensors").read_bytes()
    values = {row["step"]: float(row["val/loss"]) for row in rows(straight) if row["val/loss"]}
    assert int(best.name[5:]) == int(min(values, key=lambda step: values[step]))


def test_a_stopped_run_continues_to_the_bit(shards, straight, tmp_path, capsys):
    with pytest.raises(Cut):
        train(shards, tmp_path, 10, checkpoint=Checkpoints(every_steps=3), trainer={"callbacks": [Kill(7)]})
    assert read_index(tmp_path)["last"] == "step-00000006"
    train(shards, tmp_path, 10)
    assert "continuing at step 6" in capsys.readouterr().err
    assert exact(tmp_path) == exact(straight)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_no_bit(shards, straight, tmp_path, workers):
    train(shards, tmp_path, 10, workers=workers)
    assert exact(tmp_path) == exact(straight)


def test_another_seed_is_another_run(shards, straight, tmp_path):
    train(shards, tmp_path, 10, seed=1)
    assert exact(tmp_path)["losses"] != exact(straight)["losses"]


def test_a_finished_run_says_so(shards, straight, capsys):
    _, fitted = train(shards, straight, 10)
    assert fitted.step == 10
    assert "raise --trainer.max_steps" in capsys.readouterr().err


def test_max_epochs_counts_epochs_and_fresh_starts_over(shards, tmp_path):
    train(shards, tmp_path, -1, trainer={"max_epochs": 1}, val=False)
    assert len(rows(tmp_path)) == 4
    _, fitted = train(shards, tmp_path, 3, val=False, fresh=True)
    assert fitted.step == 3
    assert len(rows(tmp_path)) == 3


def test_align_load_reads_the_run_and_needs_permission_for_foreign_classes(straight):
    with pytest.raises(ValueError, match=r"allow=\('tiny',\)"):
        align.load(straight)
    model = align.load(straight, allow=("tiny",))
    assert [term.kind for term in model.terms] == ["pairwise"] * 3
    assert not model.training
    last = align.load(straight, allow=("tiny",), checkpoint="last")
    assert last.embed(image=[torch.zeros(6)])["image"].shape == (1, 4)
    with pytest.raises(ValueError, match="steps"):
        align.load(straight, allow=("tiny",), checkpoint="3")


def test_a_bad_member_is_skipped_and_counted(tmp_path):
    write(tmp_path / "shards", missing=0, broken=(5,))
    _, fitted = train(tmp_path / "shards", tmp_path / "run", 4, val=False)
    assert json.loads((tmp_path / "run" / "bad.json").read_text()) == fitted.bad
    assert [(r.split("/")[0], n) for r, n in fitted.bad.items()] == [("array", 1)]
    assert rows(tmp_path / "run")[-1]["bad"] == "1"


def test_too_many_bad_members_stop_the_run(tmp_path):
    write(tmp_path / "shards", missing=0, broken=tuple(range(20)))
    with pytest.raises(align.data.TooManyBad, match=r"array/not-npy +1\d "):
        train(tmp_path / "shards", tmp_path / "run", 4, val=False)


def test_a_batch_that_the_ranks_cannot_share_is_refused_before_they_start(shards, tmp_path):
    model, objective = made()
    options = {**trainer, "max_steps": 2, "devices": 5}
    with pytest.raises(ValueError, match="a batch of 12 cannot be shared evenly by 5 ranks: make it 10 or 15"):
        fit(model, objective, AlignData(str(shards / "train-*.tar"), batch=12), tmp_path, trainer=options)


def test_shards_without_a_configured_modality_are_refused(shards, tmp_path):
    model = align.JointModel({"depth": align.Tower(align.preprocess.Array((6,)), Dense())}, 4)
    _, objective = made()
    data = AlignData(str(shards / "train-*.tar"), batch=12)
    with pytest.raises(ValueError, match=r"none of the model's modalities \(depth\); they have .*image \(\d+\)"):
        fit(model, objective, data, tmp_path)
    assert not (tmp_path / "metrics.csv").exists()


def test_the_learning_rate_is_a_function_of_the_step():
    optim = AdamW(lr=1.0, warmup=10, final=0.1)
    rates = [optim.at(step, 100) for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.1)


def test_only_matrices_decay():
    model, objective = made()
    optimizer = AdamW(weight_decay=0.3).build(model, objective)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert (group["weight_decay"] == 0.3) == (parameter.ndim >= 2)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(
        [*model.parameters(), *objective.parameters()]
    )
