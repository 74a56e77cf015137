"""Loggers beside metrics.csv: names and class paths, and resumed runs that go on in one W&B or MLflow run."""

from __future__ import annotations

import csv
import json
import logging
import os
import struct
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import tiny
from cut import Cut, Kill

from align.lit import AlignData, Checkpoints, fit
from align.lit.log import Log
from align.lit.loggers import Loggers, check_loggers, make_loggers
from align.optim import AdamW


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    return tiny.write(tiny.write(folder), "test", 20)


def train(shards: Path, run: Path, steps: int, logger: Any, **options: Any) -> None:
    model, objective = tiny.made()
    data = AlignData(str(shards / "train-*.tar"), str(shards / "test-*.tar"), batch=12, workers=0)
    trainer = {"accelerator": "cpu", "precision": "64-true", "logger": logger, "max_steps": steps, **options}
    fit(model, objective, data, run, optim=AdamW(lr=0.01), trainer=trainer, checkpoint=Checkpoints(every_steps=3))


def killed_and_resumed(shards: Path, run: Path, logger: Any) -> dict[int, dict[str, str]]:
    """Kill a run at step 7, whose rows are sent at once, let it go on to step 10, and return its metrics.csv."""
    with patch.object(Log.__init__, "__kwdefaults__", {"block": 1, "known": ()}), pytest.raises(Cut):
        train(shards, run, 10, logger, callbacks=[Kill(7)])
    train(shards, run, 10, logger)
    with (run / "metrics.csv").open(newline="") as f:
        return {int(row["step"]): row for row in csv.DictReader(f)}


def test_names_that_cannot_be_meant_are_refused():
    with pytest.raises(ValueError, match=r"trainer.logger 'wandbb' is none of .*did you mean 'wandb'"):
        check_loggers(["tensorboard", "wandbb"])
    with patch("align.lit.loggers.has_part", lambda *part: False):
        with pytest.raises(ValueError, match=r"trainer.logger mlflow needs a package that is missing: .*\[tracking\]"):
            check_loggers("mlflow")
        check_loggers(["tensorboard", {"class_path": "lightning.pytorch.loggers.CSVLogger"}])
    for good in (True, False, None, "tensorboard", []):
        check_loggers(good)


def test_a_class_path_is_made_with_its_arguments(tmp_path):
    path = "lightning.pytorch.loggers.CSVLogger"
    (one,) = make_loggers([{"class_path": path, "init_args": {"save_dir": str(tmp_path), "name": "n"}}], tmp_path, 0)
    assert type(one).__name__ == "CSVLogger"
    assert one.name == "n"
    with pytest.raises(ValueError, match=r"trainer.logger 'lightning.pytorch.loggers.NoLogger': .*NoLogger"):
        check_loggers({"class_path": "lightning.pytorch.loggers.NoLogger"})
    with pytest.raises(ValueError, match=r"is no lightning.pytorch.loggers.Logger$"):
        check_loggers([{"class_path": "collections.Counter"}])
    assert make_loggers(False, tmp_path, 0) == []


def test_a_logger_that_does_not_start_is_one_line(tmp_path):
    """Lightning begins a logger's run before any callback, so it has begun by then."""
    pytest.importorskip("wandb")
    with (
        patch("wandb.init", side_effect=RuntimeError("No API key configured. Use\n`wandb login`.")),
        pytest.raises(ValueError, match=r"^trainer.logger: Wandb did not start: No API key .*`; WANDB_MODE=offline "),
    ):
        make_loggers(["tensorboard", "wandb"], tmp_path, 0)


def test_options_that_lightning_refuses_are_one_line():
    from align.lit.trainer import make_trainer

    with pytest.raises(ValueError, match=r"^trainer: `Trainer\(devices='0'\)` value is not a valid input"):
        make_trainer({"accelerator": "cpu", "devices": "0"}, steps=1, validates=False, callbacks=[])


def test_the_command_line_takes_a_name_a_list_a_class_path_or_false():
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--trainer.logger", type=Loggers, default=True)
    for text, want in {
        "false": False,
        "true": True,
        "wandb": "wandb",
        "[tensorboard, mlflow]": ["tensorboard", "mlflow"],
        "{class_path: a.B, init_args: {c: 1}}": {"class_path": "a.B", "init_args": {"c": 1}},
    }.items():
        assert parser.parse_args(["--trainer.logger", text]).trainer.logger == want, text


def tensorboard_values(run: Path, name: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    found = EventAccumulator(str(run / "tensorboard"))
    found.Reload()
    return [(event.step, event.value) for event in found.Scalars(name)]


def test_tensorboard_has_each_step_of_a_killed_run_one_time(shards, tmp_path):
    rows = killed_and_resumed(shards, tmp_path, "tensorboard")
    assert [step for step, _ in tensorboard_values(tmp_path, "loss")] == list(range(1, 11))
    validated = [step for step, row in rows.items() if row["val/loss"]]
    assert [step for step, _ in tensorboard_values(tmp_path, "val/loss")] == validated


def read_records(path: Path) -> Iterator[bytes]:
    """Yield the records of a file in LevelDB's log format, after a head of 7 bytes."""
    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # the rest of a block
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or its last part
            yield whole
            whole = b""


def read_wandb(run: Path) -> list[dict[str, float]]:
    """Return the rows of all files that W&B has written offline, in their order."""
    from wandb.proto import wandb_internal_pb2

    rows = []
    for path in sorted(run.glob("wandb/offline-run-*/*.wandb")):
        for data in read_records(path):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                rows.append({i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items})
    return rows


@pytest.mark.sweep
@pytest.mark.filterwarnings("ignore")  # of W&B's own code
def test_wandb_goes_on_offline_with_the_same_run_and_no_step_two_times(shards, tmp_path):
    names = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(tmp_path)}
    with patch.dict(os.environ, names):
        rows = killed_and_resumed(shards, tmp_path, "wandb")
    number = json.loads((tmp_path / "loggers.json").read_text())["wandb"]
    files = sorted(path.name for path in tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert files == [f"run-{number}.wandb"] * 2
    end = time.monotonic() + 60  # another process of W&B writes the file
    while not any(row["trainer/global_step"] == 10 for row in read_wandb(tmp_path)) and time.monotonic() < end:
        time.sleep(0.2)
    sent = read_wandb(tmp_path)
    times = Counter((row["trainer/global_step"], name) for row in sent for name in row if not name.startswith("_"))
    assert set(times.values()) == {1} | {n for (_, name), n in times.items() if name == "trainer/global_step"}
    losses = {int(row["trainer/global_step"]): row["loss"] for row in sent if "loss" in row}
    assert losses == {step: float(row["loss"]) for step, row in rows.items()}
    validated = {int(row["trainer/global_step"]): row["val/loss"] for row in sent if "val/loss" in row}
    assert validated == {step: float(row["val/loss"]) for step, row in rows.items() if row["val/loss"]}


@pytest.mark.sweep
@pytest.mark.filterwarnings("ignore")  # of MLflow's own code
def test_mlflow_goes_on_with_the_same_run_and_no_step_two_times(shards, tmp_path):
    with patch.dict(os.environ):
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        rows = killed_and_resumed(shards, tmp_path / "run", ["mlflow"])
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'run/mlflow.db'}")
    (experiment,) = [one for one in client.search_experiments() if one.name == "align"]
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_id == json.loads((tmp_path / "run/loggers.json").read_text())["mlflow"]
    losses = [(m.step, m.value) for m in client.get_metric_history(found.info.run_id, "loss")]
    assert sorted(losses) == [(step, float(row["loss"])) for step, row in rows.items()]
    name = "val/image_to_text/recall_at_1"
    recalls = [m.step for m in client.get_metric_history(found.info.run_id, name)]
    assert sorted(recalls) == [step for step, row in rows.items() if row["val/loss"]]


def test_a_fresh_run_forgets_the_ids(shards, tmp_path):
    (tmp_path / "loggers.json").write_text('{"wandb": "abc"}')
    from align.lit.ending import clear

    clear(tmp_path)
    assert not (tmp_path / "loggers.json").exists()
