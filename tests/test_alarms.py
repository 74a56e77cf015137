"""Alarms: each has a run that must raise it, and healthy runs that must raise none."""

from __future__ import annotations

import json
import mmap
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import tiny
import torch
from torch import nn

from align import Features, JointModel, Objective, Term, Tower
from align.diagnostics import Diagnose, read_alarms, read_measures
from align.diagnostics.watch import Alarms, Glance, clamped, memory
from align.diagnostics.watch import Term as Seen
from align.lit import AlignData, fit
from align.lit.sources import Source
from align.losses import InfoNCE
from align.optim import AdamW, Constant, Optim
from align.preprocess import Array

FEW = {"accelerator": "cpu", "logger": False}


def raised(glances: Iterator[Glance] | list[Glance], **options: Any) -> list[tuple[int, str, str]]:
    alarms = Alarms(**options)
    return [(alarm.step, alarm.name, alarm.cause) for glance in glances for alarm in alarms.look(glance)]


def seen(loss: float, *, scale: float = 14.3, limit: float = 100.0, learned: bool = True, flat: bool = True) -> Seen:
    return Seen("pairs", loss, (64, 64), flat, scale, limit, learned)


# --- one watcher at a time


def test_collapse_is_seen_at_the_third_glance_and_said_one_time():
    low = [
        Glance(step, spread={"image": 0.001 if step > 20 else 0.6}, rows={"image": 64}) for step in range(10, 200, 10)
    ]
    assert raised(low) == [(50, "collapse", "image")]
    constant = [Glance(step, spread={"image": 0.0}, rows={"image": 64}) for step in range(10, 60, 10)]
    assert raised(constant) == [(30, "collapse", "image")]


def test_a_fresh_tower_whose_rows_begin_close_together_is_no_collapse():
    spreads = [0.002, 0.003, 0.004, 0.008, 0.05, 0.3]
    glances = [Glance(10 * i + 10, spread={"m": x}, rows={"m": 64}) for i, x in enumerate(spreads)]
    assert raised(glances) == []
    assert raised([Glance(step, spread={"m": 0.0}, rows={"m": 7}) for step in range(10, 99, 10)]) == []  # few rows


def test_a_loss_at_the_logarithm_is_seen_after_100_steps_and_names_the_scale():
    glances = [Glance(step, terms={"pairs": seen(4.15, scale=0.01)}) for step in range(10, 400, 10)]
    (alarm,) = [a for alarms in [Alarms()] for glance in glances for a in alarms.look(glance)]
    assert (alarm.step, alarm.name, alarm.cause) == (110, "stuck-loss", "pairs")
    assert "scale 0.01" in alarm.text
    assert "4.159 is that of 64 candidates" in alarm.text
    assert "the scale of pairs is too small" in alarm.advice
    tuples = [Glance(step, terms={"pairs": seen(8.31)}) for step in range(10, 400, 10)]  # all pairs of the others
    assert raised([g._replace(terms={"pairs": g.terms["pairs"]._replace(candidates=(64,) * 3)}) for g in tuples])


@pytest.mark.parametrize(
    "change", [{"loss": 3.9}, {"flat": False}, {"loss": 4.5}], ids=["below", "another loss", "above"]
)
def test_a_loss_elsewhere_is_not_stuck(change):
    glances = [Glance(step, terms={"pairs": seen(4.16)._replace(**change)}) for step in range(10, 400, 10)]
    assert raised(glances) == []


def test_a_loss_that_passes_the_logarithm_or_warms_up_is_not_stuck():
    falling = [Glance(step, terms={"pairs": seen(4.4 - step / 400)}) for step in range(10, 400, 10)]
    assert raised(falling) == []
    warm = [Glance(step, rate=0.3, terms={"pairs": seen(4.16)}) for step in range(10, 400, 10)]
    assert raised(warm) == []


def test_a_tower_without_gradient_is_seen_where_it_has_rows():
    rows, norms = {"image": 8, "text": 8}, {"image": 0.0, "text": 0.3}
    glances = [Glance(step, rows=rows, gradients=norms) for step in range(10, 60, 10)]
    assert raised(glances) == [(30, "no-gradient", "image")]
    assert raised([g._replace(rows={"image": 0, "text": 8}) for g in glances]) == []
    assert raised([g._replace(gradients={"image": 1e-5, "text": 0.3}) for g in glances]) == []


def test_a_temperature_at_its_clamp_is_seen_after_50_steps():
    glances = [Glance(step, terms={"pairs": seen(1.0, scale=100.0)}) for step in range(10, 200, 10)]
    assert raised(glances) == [(60, "clamped-temperature", "pairs")]
    assert raised([g._replace(terms={"pairs": seen(1.0, scale=99.0)}) for g in glances]) == []
    assert raised([g._replace(terms={"pairs": seen(1.0, scale=100.0, learned=False)}) for g in glances]) == []


def test_an_exhausted_source_is_seen_in_its_eleventh_epoch():
    glances = [Glance(step, epochs={"small": step // 20, "large": 0}) for step in range(10, 400, 10)]
    assert raised(glances) == [(200, "exhausted-source", "small")]
    assert raised([g._replace(epochs={"small": g.epochs["small"], "large": 1}) for g in glances]) == []
    assert raised([g._replace(epochs={"only": 99}) for g in glances]) == []


def test_growing_memory_is_steady_growth_past_the_warm_up():
    def rise(used: Any) -> list[Glance]:
        return [Glance(step, memory={"memory": int(used(step) * 2**20)}) for step in range(10, 1000, 10)]

    (alarm,) = raised(rise(lambda step: 500 + step / 4))
    assert alarm[1:] == ("growing-memory", "memory")
    assert alarm[0] == 340  # 100 steps settle, and 24 glances are 230 more
    assert raised(rise(lambda step: 500 + step / 20)) == []  # 12 MiB in the window
    assert raised(rise(lambda step: 500 + (2000 if step > 300 else 0))) == []  # a jump
    assert raised(rise(lambda step: 500 + 200 * (step % 100 > 50))) == []  # a saw-tooth
    assert raised(rise(lambda step: 500 + min(step, 100) * 9)) == []  # a warm-up


def test_memory_for_decoded_samples_is_no_leak():
    def fill(mib: float) -> list[Glance]:
        rises = [(step, 500 + mib * min(step, 500) / 500) for step in range(10, 1000, 10)]
        return [Glance(step, memory={"memory": int(x * 2**20)}, full=step > 500) for step, x in rises]

    assert raised(fill(400), keep=512 << 20) == []
    assert raised(fill(400)) != []
    assert raised(fill(800), keep=512 << 20) != []


def test_a_cause_of_an_earlier_start_is_not_said_again():
    first = Alarms()
    glances = [Glance(step, spread={"image": 0.0}, rows={"image": 64}) for step in range(10, 60, 10)]
    said = [alarm for glance in glances for alarm in first.look(glance)]
    assert raised(glances, said=said) == []


# --- runs


class Leaking(L.Callback):
    """A callback that keeps 2 MiB of every step, in pages of their own: a heap would reuse what other tests freed."""

    def __init__(self):
        self.kept = []

    def on_train_batch_end(self, *args: Any) -> None:
        self.kept.append(mmap.mmap(-1, 2 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self.kept[-1].write(b"x" * (2 << 20))


class Detached(nn.Module):
    """A head that lets no gradient through."""

    def __init__(self, width: int, dim: int):
        super().__init__()
        self.net = nn.Linear(width, dim)

    def forward(self, features: Features, tokens: bool = False) -> torch.Tensor:
        return self.net(features.pooled).detach()


class Together(InfoNCE):
    """A loss that only pulls: every row comes to one point."""

    def forward(self, embeddings: Any, samples: Any, **given: Any) -> torch.Tensor:
        a, b = embeddings
        return (a[:, None] - b).square().mean() + 0 * self.scale.sum()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    tiny.write(folder / "all", "train", 144, missing=0)
    tiny.write(folder / "all", "test", 48, missing=0)
    return tiny.write(folder / "few", "train", 12, missing=0).parent


def train(shards: Path, run: Path, steps: int, **given: Any) -> list[tuple[str, str]]:
    """Train a tiny model, and return the names and causes of its alarms."""
    torch.manual_seed(0)
    towers = {m: Tower(Array((6,)), tiny.Dense()) for m in ("image", "audio")}
    model = JointModel(towers | given.pop("towers", {}), 8)
    loss, between = given.pop("loss", None) or InfoNCE(), given.pop("between", [["image", "audio"]])
    objective = Objective({"pairs": Term(loss, between)}, dim=8, batch=24, modalities=model.modalities)
    train = given.pop("train", str(shards / "all/train-*.tar"))
    data = AlignData(train, given.pop("val", None), batch=24, workers=0, keep=0)
    trainer = {**FEW, "max_steps": steps, **given.pop("trainer", {})}
    fit(model, objective, data, run, trainer=trainer, **{"optim": AdamW(lr=0.01), **given})
    return [(alarm.name, alarm.cause) for alarm in read_alarms(run)]


def test_a_healthy_run_raises_no_alarm(shards, tmp_path, capsys):
    assert train(shards, tmp_path, 150, val=str(shards / "all/test-*.tar")) == []
    assert "alarm" not in capsys.readouterr().err
    assert not (tmp_path / "alarms.jsonl").exists()


def test_a_run_that_collapses_says_so_within_50_steps(shards, tmp_path, capsys):
    assert ("collapse", "image") in train(shards, tmp_path, 60, loss=Together(), optim=AdamW(lr=0.1, warmup=0))
    assert min(alarm.step for alarm in read_alarms(tmp_path)) <= 50
    said = [line for line in capsys.readouterr().err.splitlines() if "image has collapsed" in line]
    assert len(said) == 1
    assert said[0].startswith("alarm at step ")
    assert "negatives" in said[0]


def test_a_run_with_a_tiny_scale_sits_at_the_logarithm(shards, tmp_path):
    loss = InfoNCE(start_scale=0.01, learn_scale=False)
    assert train(shards, tmp_path, 130, loss=loss) == [("stuck-loss", "pairs")]
    (alarm,) = read_alarms(tmp_path)
    assert "3.178 is that of 24 candidates that all score the same (scale 0.01)" in alarm.text
    assert "learn_scale" in alarm.advice


def test_a_tower_that_lets_no_gradient_through_is_named(shards, tmp_path):
    found = train(shards, tmp_path, 40, towers={"audio": Tower(Array((6,)), tiny.Dense(), Detached)})
    assert found == [("no-gradient", "audio")]


def test_a_tower_in_no_term_is_named(shards, tmp_path):
    found = train(shards, tmp_path, 40, towers={"text": Tower(Array((6,)), tiny.Dense())})
    assert found == [("no-gradient", "text")]


def test_a_scale_at_its_limit_is_named(shards, tmp_path):
    assert train(shards, tmp_path, 70, loss=InfoNCE(start_scale=4.0, max_scale=4.0)) == [
        ("clamped-temperature", "pairs")
    ]


def test_a_source_that_is_repeated_is_named(shards, tmp_path):
    sources = {
        "few": Source(str(shards / "few/train-*.tar"), weight=1.0),
        "all": Source(str(shards / "all/train-*.tar"), weight=1.0),
    }
    assert ("exhausted-source", "few") in train(shards, tmp_path, 20, train=sources)
    assert train(shards, tmp_path / "even", 20, train={k: Source(v.urls) for k, v in sources.items()}) == []


def test_a_run_that_keeps_memory_says_so(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "WARM", 20)
    monkeypatch.setattr(memory, "GLANCES", 8)
    found = train(shards, tmp_path, 110, trainer={"callbacks": [Leaking()]})
    assert ("growing-memory", "memory") in found


def test_a_resumed_run_says_a_cause_one_time(shards, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(clamped, "TIMES", 2)
    options = {"loss": InfoNCE(start_scale=4.0, max_scale=4.0), "optim": Optim(lr=0.01, schedule=Constant())}
    train(shards, tmp_path, 40, **options)
    assert "alarm at step" in capsys.readouterr().err
    assert train(shards, tmp_path, 60, **options) == [("clamped-temperature", "pairs")]
    assert "alarm at step" not in capsys.readouterr().err


def test_no_alarm_is_raised_where_none_is_asked_for(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(clamped, "TIMES", 1)
    loss = InfoNCE(start_scale=4.0, max_scale=4.0)
    assert train(shards, tmp_path, 20, loss=loss, diagnose=Diagnose(alarms=False)) == []
    assert json.loads((tmp_path / "diagnostics.jsonl").read_text().splitlines()[0])["step"] == 0


# --- healthy runs on real data, and on the quickstart's world


@pytest.mark.sweep
def test_the_digits_raise_no_alarm(real_data, tmp_path):
    from written import environment, root

    from align.commands import main

    for name in ("mnist", "fsdd"):
        real_data(name)
    recipe = [sys.executable, str(root / "datasets/digits.py"), str(tmp_path / "shards"), "--train", "4000"]
    subprocess.run([*recipe, "--test", "300"], check=True, env=environment(), cwd=tmp_path)
    options = ["--config", str(root / "configs/digits.yaml"), "--run", str(tmp_path / "run"), "--data.batch", "64"]
    options += [
        f"--data.{name}={tmp_path}/shards/{split}-*.tar" for name, split in (("train", "train"), ("val", "test"))
    ]
    options += ["--trainer.max_epochs", "-1", "--trainer.max_steps", "200", "--data.workers", "0"]
    assert main(["train", *options, "--trainer.val_check_interval", "100", "--trainer.logger", "false"]) == 0
    assert read_alarms(tmp_path / "run") == []
    last = read_measures(tmp_path / "run")[-1]
    assert last.scores["trained/image_to_points/recall@1"] > 0.4


@pytest.mark.sweep
def test_the_quickstart_raises_no_alarm(tmp_path):
    from align.commands import main

    small = ["--objects", "800", "--test", "60", "--steps", "200", "--workers", "0"]
    assert main(["quickstart", str(tmp_path / "run"), *small]) == 0
    assert read_alarms(tmp_path / "run") == []
    assert len(read_measures(tmp_path / "run")) > 1
