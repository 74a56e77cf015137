"""Evaluators while a model trains: they measure the weights that are saved, and change no bit of the run."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import tiny
import torch
from test_lit import exact, rows
from tiny_space import D, Letters, Pass, Straight, world, write_tar

import align
from align.checkpoint import read_index
from align.data import Shards
from align.evaluation import Findings, evaluate
from align.lit import AlignData, Checkpoints, fit
from align.lit.evaluations import describe
from align.lit.progress import Progress
from align.lit.sources import Source
from align.losses import InfoNCE
from align.model import JointModel, Tower
from align.objective import Objective, Term
from align.optim import Constant, Optim
from align.preprocess import Array, Bytes

pytestmark = pytest.mark.slow

ALL = {"with": ["zeroshot", "retrieval", "test_lit_validate.Rude"], "every_steps": 2}
ACCURACY = "val/zeroshot/kind/image/accuracy"


class Shifted(torch.optim.SGD):
    """An optimiser with two modes: evaluation sees every weight 0.3 higher, and the way back rounds."""

    def train(self):
        self._shift(-0.3)

    def eval(self):
        self._shift(0.3)

    def _shift(self, by):
        first = not hasattr(self, "shown")
        self.shown = by > 0
        for group in self.param_groups:
            for p in group["params"]:
                p.data.add_(0.0 if first else by)


def total_of(model) -> float:
    """The sum of a model's weights."""
    return float(sum(p.detach().double().sum() for p in model.parameters()))


class Rude:
    """An evaluator that draws from every generator, and may send the process a signal."""

    name = "rude"
    signals: tuple[int, ...] = ()  # numbers of the runs that raise one
    runs = 0

    def run(self, space):
        Rude.runs += 1
        if Rude.runs in Rude.signals:
            signal.raise_signal(signal.SIGTERM)
        torch.manual_seed(random.randrange(9) + np.random.randint(9))
        torch.rand(3)
        assert not any(module.training for module in space.model.modules())
        space.of_model(space.model).table()  # embeds anew
        return Findings({"total": total_of(space.model)})


class Scripted:
    """An evaluator with given scores, one at a time."""

    name = "scripted"
    scores: Sequence[float] = ()

    def run(self, space):
        first, *Scripted.scores = Scripted.scores
        return Findings({"score": first})


class Empty:
    name = "empty"

    def run(self, space):
        return Findings({}, {"notes": ["there is nothing"]})


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    write_tar(folder / "train.tar", world(36, seed=1, noise=0.6))
    write_tar(folder / "val.tar", world(24, noise=0.8))
    classes = {"kind": ["bbb", "ccc", "ddd", "eee", "fff", "ggg"], "half": ["0", "1"]}
    return folder, classes


def train(shards, run: Path, steps: int = 5, validate: Any = ALL, **options):
    folder, _ = shards
    torch.manual_seed(0)
    towers = {"image": Tower(Array([D]), Straight()), "audio": Tower(Array([D]), Straight(), Pass)}
    model = JointModel(towers | {"text": Tower(Bytes(context=32), Letters())}, D)
    total = Objective({"pairs": Term(InfoNCE(), "all")}, dim=D, batch=12, modalities=list(model.modalities))
    val = options.pop("val", str(folder / "val.tar"))
    data = AlignData(str(folder / "train.tar"), val, batch=12, workers=0)
    given = {"accelerator": "cpu", "logger": False, "max_steps": steps, "val_check_interval": 3}
    optim = Optim(lr=0.05, optimizer=Shifted, schedule=Constant())
    options = {
        "optim": optim,
        "checkpoint": Checkpoints(monitor=ACCURACY if validate else "val/loss", mode="max"),
    } | options
    return model, fit(model, total, data, run, trainer=given | options.pop("trainer", {}), validate=validate, **options)


@pytest.fixture(scope="module")
def straight(shards, tmp_path_factory):
    run = tmp_path_factory.mktemp("straight") / "run"
    train(shards, run, checkpoint=Checkpoints(monitor=ACCURACY, mode="max", keep=9))
    return run


def test_a_run_with_evaluators_is_the_run_without(shards, straight, tmp_path):
    after = []
    for name, validate in (("without", None), ("with", ALL)):
        random.seed(5)
        np.random.seed(5)
        train(shards, tmp_path / name, 1, validate)
        after.append((random.random(), np.random.random()))
    assert after[0] == after[1]
    train(shards, tmp_path, validate=None)
    mine, theirs = exact(straight), exact(tmp_path)
    lines = [
        str([(r["step"], r["loss"], r["grad_norm"]) for r in rows(run) if r["loss"]]) for run in (straight, tmp_path)
    ]
    assert lines[0] == lines[1]
    assert {k: v for k, v in mine.items() if k != "losses"} == {k: v for k, v in theirs.items() if k != "losses"}


def test_scores_are_those_of_the_saved_weights(shards, straight):
    folder, _ = shards
    table = {int(row["step"]): row for row in rows(straight)}
    assert [step for step, row in table.items() if row[ACCURACY]] == [0, 2, 4, 5]
    assert [step for step, row in table.items() if row["val/loss"]] == [3, 5]
    assert len({row["val/rude/total"] for row in table.values()}) == 5  # four values, and none
    for step in (2, 4, 5):
        model = align.load(straight / f"checkpoints/step-{step:08d}", allow=("tiny_space",))
        scores = evaluate(model, Shards(str(folder / "val.tar"), shuffle=False)).scores
        assert len(scores) > 30
        for name, value in scores.items():
            name = name if name.startswith("zeroshot/") else f"retrieval/{name}"
            assert float(table[step][f"val/{name}"]) == value, (step, name)
        assert float(table[step]["val/rude/total"]) == total_of(model)


def test_the_weights_that_a_run_begins_with_are_measured_whatever_the_monitor_is(shards, tmp_path):
    train(shards, tmp_path, 1, {"with": ["test_lit_validate.Rude"]}, checkpoint=Checkpoints())
    assert [row["step"] for row in rows(tmp_path) if row["val/rude/total"]] == ["0", "1"]


def test_the_best_checkpoint_is_that_of_the_highest_score(straight):
    values = {int(row["step"]): float(row[ACCURACY]) for row in rows(straight) if row[ACCURACY] and row["step"] != "0"}
    known = read_index(straight)
    assert (known["monitor"], known["value"]) == (ACCURACY, max(values.values()))
    assert int(known["best"][5:]) == max(values, key=lambda step: values[step])
    best = straight / "checkpoints" / known["best"] / "model.safetensors"
    assert (straight / "model/model.safetensors").read_bytes() == best.read_bytes()


@pytest.mark.parametrize(("mode", "best"), [("max", 2), ("min", 3)])
def test_the_mode_says_which_score_is_the_best_one(shards, tmp_path, mode, best):
    """The weights at step 0 are no candidate."""
    Scripted.scores = (0.0 if mode == "min" else 1.0, 0.5, 0.7, 0.2)
    when = Checkpoints(monitor="val/scripted/score", mode=mode)
    train(shards, tmp_path, 3, {"with": ["test_lit_validate.Scripted"], "every_steps": 1}, checkpoint=when)
    assert read_index(tmp_path)["best"] == f"step-{best:08d}"
    assert read_index(tmp_path)["value"] == {2: 0.7, 3: 0.2}[best]


@pytest.mark.parametrize(
    "number", [1, pytest.param(0, marks=pytest.mark.sweep), pytest.param(3, marks=pytest.mark.sweep)]
)
def test_a_stop_in_an_evaluation_leaves_it_to_make_up(shards, straight, tmp_path, capsys, number):
    """In the one at step 2, and by hand in the one at step 0 and in the last one."""
    Rude.runs, Rude.signals = 0, (number + 1,)
    step = (0, 2, 4, 5)[number]
    keep = Checkpoints(monitor=ACCURACY, mode="max", keep=9)
    assert train(shards, tmp_path, checkpoint=keep)[1][:2] == (step, signal.SIGTERM)
    state = tmp_path / f"checkpoints/step-{step:08d}/training/state.json"
    assert not json.loads(state.read_text())["evaluated"]
    train(shards, tmp_path, checkpoint=keep)
    assert exact(tmp_path) == exact(straight)
    assert read_index(tmp_path) == read_index(straight)
    mine, theirs = (
        [{k: v for k, v in r.items() if "per_second" not in k and k != "wait"} for r in rows(x)]
        for x in (tmp_path, straight)
    )
    assert mine == theirs


def test_the_line_of_progress_has_the_start_beside_it(capsys):
    scores = {ACCURACY: 0.5, "val/retrieval/a_to_b/recall@1": 0.2, "val/retrieval/b_to_a/recall@1": 0.4}
    first = {ACCURACY: 0.25, "val/loss": 3.0, "val/a_to_b/recall@1": 1.0}
    want = "zeroshot/kind/image/accuracy 0.500 (0.250 at step 0)  retrieval: mean recall@1 0.300"
    assert describe(scores, first) == want
    assert describe({"val/rude/total": 2.0}, {}) == "rude/total 2.000"


def test_the_mean_recall_leaves_out_pairs_without_rows(capsys):
    """A mosaic has rows in training alone, so its recall is NaN in each validation."""
    scores = {"val/loss": 2.0, "val/a_to_b/recall@1": 0.25, "val/a_to_mosaic/recall@1": float("nan")}
    module: Any = SimpleNamespace(step=3, validation=scores)
    trainer: Any = SimpleNamespace(is_global_zero=True, sanity_checking=False)
    Progress(module, cast("Any", None)).on_validation_end(trainer, module)
    assert capsys.readouterr().err == "step 3: validation loss 2.0000  mean recall@1 0.250\n"


def test_a_wrong_monitor_is_refused_before_the_first_step(shards, tmp_path):
    wrong = Checkpoints(monitor="val/zeroshot/kind/imag/accuracy", mode="max")
    with pytest.raises(ValueError, match=f"'val/zeroshot/kind/imag/accuracy' is none of .*did you mean '{ACCURACY}'"):
        train(shards, tmp_path, checkpoint=wrong)
    assert not read_index(tmp_path)
    with pytest.raises(ValueError, match=r"'val/zeroshot/.*' is none of val/loss, .*recall@1$"):
        train(shards, tmp_path / "other", validate=None, checkpoint=Checkpoints(monitor=ACCURACY))


@pytest.mark.parametrize(
    ("validate", "options", "message"),
    [
        ({"with": ["zeroshto"]}, {}, "validate.with: no evaluator 'zeroshto'; did you mean 'zeroshot'"),
        ({"every_steps": 0}, {}, "validate.every_steps is at least 1; got 0"),
        ({"with": ["retrieval"]}, {"val": None}, "validate needs shards or columns in data.val; it has none"),
    ],
)
def test_validate_that_cannot_be_meant(shards, tmp_path, validate, options, message):
    with pytest.raises(ValueError, match=message):
        train(shards, tmp_path / "run", validate=validate, **options)
    assert not (tmp_path / "run").exists()


def test_nothing_to_measure_stops_before_the_first_step(shards, tmp_path):
    with pytest.raises(ValueError, match=r"validate: empty measured nothing on data\.val; there is nothing"):
        train(shards, tmp_path, validate={"with": ["test_lit_validate.Empty"]})
    assert not read_index(tmp_path)


def test_named_sources_of_validation_are_measured_one_by_one_and_float64_as_float32(tmp_path):
    folder = tiny.write(tiny.write(tmp_path), "test", 20)
    model, total = tiny.made()
    val = {"one": Source(str(folder / "test-*.tar")), "two": Source(str(folder / "train-*.tar"))}
    data = AlignData(str(folder / "train-*.tar"), val, batch=12, workers=0)
    given = {"accelerator": "cpu", "precision": "64-true", "logger": False, "max_steps": 1}
    fit(model, total, data, tmp_path / "run", trainer=given, validate={"with": ["retrieval"]})
    last = rows(tmp_path / "run")[-1]
    assert last["step"] == "1"
    saved = align.load(tmp_path / "run", allow=("tiny",))
    for name, split in (("one", "test"), ("two", "train")):
        scores = evaluate(saved, Shards(str(folder / f"{split}-*.tar"), shuffle=False), with_=["retrieval"]).scores
        assert float(last[f"val/{name}/retrieval/image_to_text/recall@1"]) == scores["image_to_text/recall@1"]
