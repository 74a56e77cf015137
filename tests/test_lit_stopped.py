"""A stopped run does what it still has to do: the validation that was due, the best checkpoint, RUN/model, the counts.

Every case is held against the run that was not stopped: all of its files, but for the times in metrics.csv.
"""

from __future__ import annotations

import csv
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from test_lit import rows, train
from tiny import write

from align.checkpoint import find_checkpoint, read_index
from align.lit import AlignModule, Checkpoints, Fitted
from align.optim import AdamW

STEPS, EVERY, BATCHES = 6, 2, 2  # steps of the run, of a validation; batches of a validation


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Some members of training and validation are bad: what a validation counts is part of what it leaves."""
    folder = tmp_path_factory.mktemp("shards")
    return write(write(folder, missing=0.2, broken=(3, 30)), "test", 20, missing=0.2, broken=(1, 15))


class Stop(L.Callback):
    """Raises a signal, or an error that nobody expects as SIGKILL would, in the middle of a step."""

    def __init__(self, step: int, batch: int | None = None, number: int = signal.SIGTERM):
        self.step, self.batch, self.number = step, batch, number

    def _stop(self) -> None:
        if self.number == signal.SIGKILL:
            raise Killed
        signal.raise_signal(self.number)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        assert isinstance(pl_module, AlignModule)
        if self.batch is None and pl_module.step == self.step - 1:
            self._stop()

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        assert isinstance(pl_module, AlignModule)
        if pl_module.step == self.step and self.batch == batch_idx:
            self._stop()


class Killed(BaseException):
    pass


def go(shards: Path, run: Path, *stops: L.Callback, steps: int = STEPS, every: int | None = 2, **options) -> Fitted:
    given = {"val_check_interval": EVERY, "callbacks": list(stops), **options.pop("trainer", {})}
    checkpoint = Checkpoints(every_steps=every, keep=9)
    return train(shards, run, steps, trainer=given, checkpoint=checkpoint, max_bad=1, **options)[1]


def everything(run: Path) -> dict[str, Any]:
    """All files of a run as one can compare them: without times, and without the list of starts."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in run.rglob("*") if p.is_file()):
        found[str(path.relative_to(run))] = (
            json.loads(path.read_text()) if path.suffix == ".json" else path.read_bytes()
        )
    with (run / "metrics.csv").open(newline="") as f:
        table = list(csv.DictReader(f))
    found["metrics.csv"] = [{k: v for k, v in row.items() if k not in ("samples_per_second", "wait")} for row in table]
    found.pop("environment.json", None)
    lines = [json.loads(line) for line in found.pop("diagnostics.jsonl", b"").splitlines()]
    found["diagnostics.jsonl"] = [line | {"seconds": 0} for line in lines]
    return found


@pytest.fixture(scope="module")
def straight(shards, tmp_path_factory):
    run = tmp_path_factory.mktemp("straight") / "run"
    assert go(shards, run) == Fitted(STEPS, 0, json.loads((run / "bad.json").read_text()))
    assert [int(row["step"]) for row in rows(run) if row["val/loss"]] == [2, 4, 6]
    assert sum(json.loads((run / "bad.json").read_text()).values()) > 6
    return everything(run)


last, middle, slow, sweep = STEPS, 4, pytest.mark.slow, pytest.mark.sweep


@pytest.mark.parametrize(
    "stops",
    [
        pytest.param([Stop(last)], id="the last step", marks=sweep),
        pytest.param([Stop(last, number=signal.SIGINT)], id="the last step, SIGINT", marks=sweep),
        pytest.param([Stop(last, 0)], id="the last validation", marks=sweep),
        pytest.param([Stop(middle)], id="before a validation", marks=sweep),
        pytest.param([Stop(middle, 1)], id="in a validation"),
        pytest.param([Stop(middle - 1)], id="where none is due", marks=sweep),
        pytest.param([Stop(middle, 0), Stop(middle, 1), Stop(last, 1), Stop(last, 0)], id="four times", marks=slow),
        pytest.param([Stop(middle, 1, signal.SIGKILL)], id="in a validation, SIGKILL", marks=slow),
        pytest.param([Stop(last), Stop(last, 1, signal.SIGKILL), Stop(last, 1)], id="the last three times", marks=slow),
    ],
)
def test_a_stopped_run_ends_as_the_run_that_was_not(shards, straight, tmp_path, stops):
    run = tmp_path / "run"
    for stop in stops:
        if stop.number == signal.SIGKILL:
            with pytest.raises(Killed):
                go(shards, run, stop)
        else:
            assert go(shards, run, stop)[:2] == (stop.step, stop.number)
        assert not (run / "model").exists()
    fitted = go(shards, run)
    assert (run / "model" / "model.safetensors").exists()
    assert (fitted.step, fitted.signal, fitted.bad) == (STEPS, 0, straight["bad.json"])
    shutil.rmtree(run / "checkpoints" / "step-00000003", ignore_errors=True)  # only a stop makes one
    assert everything(run) == straight


@pytest.mark.slow
def test_a_stop_without_checkpoints_by_the_step(shards, straight, tmp_path):
    """A validation then saves the step, and a validation that is cut short has saved it already."""
    go(shards, tmp_path / "one", every=None)
    want = everything(tmp_path / "one")
    for stop in (Stop(middle), Stop(last, 1)):
        go(shards, tmp_path / "two", stop, every=None)
    assert read_index(tmp_path / "two")["last"] == f"step-{STEPS:08d}"
    go(shards, tmp_path / "two", every=None)
    assert everything(tmp_path / "two") == want
    assert want["metrics.csv"] == straight["metrics.csv"]


def test_the_end_of_a_run_is_made_after_a_kill(shards, straight, tmp_path, capsys):
    """Without what follows the last checkpoint, and with the model of an older best."""
    run = tmp_path / "run"
    go(shards, run)
    for damage in (lambda: shutil.rmtree(run / "model"), lambda: (run / "model" / "model.json").write_text("{}")):
        damage()
        (run / "bad.json").unlink()
        (run / "bad-shards.json").unlink()
        capsys.readouterr()
        assert go(shards, run).step == STEPS
        assert f"is trained: {STEPS} of {STEPS} steps" in capsys.readouterr().err
        assert everything(run) == straight


def test_checkpoints_that_someone_removed(shards, straight, tmp_path, capsys):
    run = tmp_path / "run"
    go(shards, run)
    steps, pointer = run / "checkpoints", run / "checkpoints/index.json"
    pointer.write_text(json.dumps(read_index(run) | {"best": "step-00000002"}))
    shutil.rmtree(steps / "step-00000002")
    kept = (run / "model/model.json").read_bytes()
    for _ in range(2):  # RUN/model is the only copy of the best
        assert go(shards, run).step == STEPS
        assert (run / "model/model.json").read_bytes() == kept
    with pytest.raises(ValueError, match=r"its best checkpoint, step-00000002, is gone; the steps \[4, 6\] are there"):
        find_checkpoint(run)
    shutil.rmtree(run / "model")
    capsys.readouterr()
    go(shards, run)
    assert "its best checkpoint, step-00000002, is gone; until a validation" in capsys.readouterr().err
    assert (run / "model/model.json").read_bytes() == (steps / "step-00000006/model.json").read_bytes()
    shutil.rmtree(steps / "step-00000006")
    capsys.readouterr()
    go(shards, run)
    assert "its last checkpoint, step-00000006, is gone; it goes on from step-00000004" in capsys.readouterr().err
    assert everything(run)["metrics.csv"] == straight["metrics.csv"]
    assert everything(run)["model/model.safetensors"] == straight["model/model.safetensors"]
    for step in (4, 6):
        shutil.rmtree(steps / f"step-0000000{step}")
    with pytest.raises(ValueError, match="none of them is left; --fresh starts over"):
        go(shards, run)


def test_another_monitor_chooses_the_best_anew(shards, tmp_path):
    run, monitor = tmp_path / "run", "val/image_to_text/recall@1"
    go(shards, run, steps=4)
    checkpoint = Checkpoints(monitor=monitor, mode="max")
    train(shards, run, 6, trainer={"val_check_interval": EVERY}, checkpoint=checkpoint, max_bad=1)
    assert read_index(run)["best"] == "step-00000006"  # no recall is above the loss that was there before
    assert (read_index(run)["monitor"], read_index(run)["value"]) == (monitor, float(rows(run)[-1][monitor]))


@pytest.mark.slow
def test_a_finished_run_gets_the_validation_that_it_never_had(shards, straight, tmp_path):
    run = tmp_path / "run"
    go(shards, run, val=False)
    assert "val/loss" not in rows(run)[0]
    assert read_index(run).get("best") is None
    go(shards, run)
    assert [row["step"] for row in rows(run) if row["val/loss"]] == [str(STEPS)]
    assert rows(run)[-1]["val/loss"] == straight["metrics.csv"][-1]["val/loss"]
    assert read_index(run)["best"] == f"step-{STEPS:08d}"


@pytest.mark.slow
def test_a_run_that_shall_not_validate_owes_nothing(shards, tmp_path):
    go(shards, tmp_path / "run", Stop(last))
    go(shards, tmp_path / "run", trainer={"limit_val_batches": 0})
    assert not any(row["val/loss"] for row in rows(tmp_path / "run")[-1:])
    assert (tmp_path / "run/model").exists()


# the learning rate


def rates(run: Path) -> list[float]:
    return [float(row["lr"]) for row in rows(run)]


def test_a_finished_run_with_more_steps_stays_at_its_final_rate_and_says_so(shards, tmp_path, capsys):
    run = tmp_path / "run"
    go(shards, run, val=False)
    before = rates(run)
    assert before[-1] == 0.01 * 0.01
    capsys.readouterr()
    go(shards, run, Stop(8), steps=10, val=False)
    said = capsys.readouterr().err
    assert said.count("past the end of its schedule") == 1
    assert "goes on past the end of its schedule, at learning rate 0.0001: the schedule was planned for 6 steps" in said
    assert "--optim.replan true plans it anew for 10" in said
    go(shards, run, steps=10, val=False)  # a stop in between changes nothing, and is not said again
    assert "learning rate" not in capsys.readouterr().err
    assert rates(run) == before + [before[-1]] * 4
    go(shards, run, steps=12, val=False)
    assert "the schedule was planned for 6 steps" in capsys.readouterr().err
    assert rates(run)[10:] == [before[-1]] * 2


@pytest.mark.slow
def test_replan_plans_the_schedule_over_all_steps(shards, tmp_path, capsys):
    run, optim = tmp_path / "run", AdamW(lr=0.01, replan=True)
    go(shards, run, val=False)
    capsys.readouterr()
    for stops in ([Stop(8)], []):
        go(shards, run, *stops, steps=10, val=False, optim=optim)
        said = capsys.readouterr().err
        assert (
            f"planned for 10 steps, not for 6: the next step has {optim.at(6, 10):.3g}, not 0.0001" in said
        ) == bool(stops)
    assert rates(run)[6:] == [optim.at(step, 10) for step in range(6, 10)]


@pytest.mark.slow
def test_an_unfinished_run_with_other_steps_says_that_its_rate_jumps(shards, tmp_path, capsys):
    run, optim = tmp_path / "run", AdamW(lr=0.01)
    go(shards, run, Stop(4), steps=10, val=False)
    assert go(shards, run, Stop(5), steps=10, val=False).step == 5
    assert "learning rate" not in capsys.readouterr().err
    go(shards, run, steps=6, val=False)
    text = f"planned for 6 steps, not for 10: the next step has 0.0001, not {optim.at(5, 10):.3g}"
    assert text in capsys.readouterr().err
    assert rates(run) == [optim.at(step, 10 if step < 5 else 6) for step in range(6)]


@pytest.mark.slow
def test_fewer_steps_than_a_run_has(shards, tmp_path, capsys):
    run = tmp_path / "run"
    go(shards, run, Stop(5), steps=10)
    assert go(shards, run, steps=3)[:2] == (5, 0)
    said = capsys.readouterr().err
    assert "step 5: validation loss" in said  # the run ends here
    assert "is trained: 5 steps, 3 were asked for; raise --trainer.max_steps" in said
    assert (run / "model/model.json").exists()
    assert go(shards, run, steps=3)[:2] == (5, 0)
    said = capsys.readouterr().err
    assert "is trained: 5 steps, 3 were asked for; raise --trainer.max_steps" in said
    go(shards, run, steps=10)  # as if nothing had been
    assert "learning rate" not in capsys.readouterr().err
    go(shards, tmp_path / "straight", steps=10)
    assert rates(run) == rates(tmp_path / "straight")
