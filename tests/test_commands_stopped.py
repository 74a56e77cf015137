"""`align train` stopped where something is still due, and the same command again: one process, kills, two ranks."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from test_commands_train import config
from tiny import write

from align.checkpoint import read_index
from align.commands import main

driver = '''
import json
import os
import sys
import warnings

warnings.simplefilter("ignore")
from align.commands import main
from align.lit.module import AlignModule

stops, codes = json.loads(sys.argv[1]), []
before = {name: getattr(AlignModule, name) for name in ("training_step", "validation_step")}


def stopped(name):
    def method(self, *args, **kwargs):
        """Signals one process of the run at the beginning of a step or of its validation."""
        place, step, rank, number = stop
        if (name, self.step, self.global_rank) == (place, step, rank):
            os.kill(os.getpid(), number)
        return before[name](self, *args, **kwargs)

    return method


for name in before:
    setattr(AlignModule, name, stopped(name))
for run, *stop in stops:
    codes.append(main(["train", "--config", "config.yaml", "--run", run, *sys.argv[2:]]))
    print("exit code", codes[-1], flush=True)
'''
nowhere = ["", -1, 0, 0]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write(tmp_path, broken=(3,))
    write(tmp_path, "test", 20, broken=(1, 15))
    (tmp_path / "driver.py").write_text(driver)
    data = {**config["data"], "max_bad": 1}
    trainer = {**config["trainer"], "precision": "64-true", "val_check_interval": 2, "max_steps": 6}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**config, "data": data, "trainer": trainer}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(stops: list, *options: str, **env: str) -> subprocess.Popen[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", **env}
    words = [sys.executable, "driver.py", json.dumps(stops), *options]
    return subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def files(run: str) -> tuple:
    """What is equal to the bit: every value of a step but the times, the model, the best checkpoint, the counts."""
    with Path(run, "metrics.csv").open(newline="") as f:
        table = [{k: v for k, v in row.items() if k not in ("samples_per_second", "wait")} for row in csv.DictReader(f)]
    model, bad = Path(run, "model/model.safetensors"), Path(run, "bad.json")
    return table, model.read_bytes(), read_index(Path(run)), json.loads(bad.read_text())


@pytest.mark.sweep  # the same in one process stands in test_lit_stopped
def test_a_killed_validation_is_made_by_the_same_command(folder, capsys):
    process = start([["two", "validation_step", 6, 0, signal.SIGKILL]])
    _, err = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, err
    assert not (folder / "two/model").exists()
    same = ["train", "--config", "config.yaml", "--run"]
    assert main([*same, "one"]) == 0
    capsys.readouterr()
    assert main([*same, "two"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("trained 6 steps; the model is in two/model")
    assert "step 6: validation loss" in said.err
    assert files("two") == files("one")


mortal = '''
import os
import signal

from align.encoders import Precomputed


class Mortal(Precomputed):
    """Ends its process in the forward pass of a step, the number of which is in the environment."""

    steps = 0

    def forward(self, values):
        self.steps += self.training
        if self.training and self.steps == int(os.environ.get("KILLED_IN", 0)):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(values)
'''
OPTIMISERS = {
    "sgd": {"optimizer": {"class_path": "torch.optim.SGD", "init_args": {"momentum": 0.9}}},
    "schedule-free": {"optimizer": "schedulefree.AdamWScheduleFree", "schedule": "align.optim.Constant"},
    "soap": {"optimizer": {"class_path": "pytorch_optimizer.SOAP", "init_args": {"precondition_frequency": 2}}},
}


@pytest.mark.sweep
@pytest.mark.parametrize("kind", OPTIMISERS)
def test_an_optimiser_is_killed_and_continued_to_the_bit(folder, kind):
    (folder / "mortal.py").write_text(mortal)
    new = yaml.safe_load((folder / "config.yaml").read_text())
    new["model"]["towers"]["image"]["encoder"]["class_path"] = "mortal.Mortal"
    new |= {"optim": {"lr": 0.01, **OPTIMISERS[kind]}, "checkpoint": {"every_steps": 3, "keep": 9}}
    new["trainer"] |= {"max_steps": 8, "val_check_interval": 4}
    (folder / "config.yaml").write_text(yaml.safe_dump(new))
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}"}

    def run(name: str, killed: int = 0) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "align", "train", "--config", "config.yaml", "--run", name]
        more = {"env": {**env, "KILLED_IN": str(killed)}, "timeout": 300}
        return subprocess.run(words, capture_output=True, text=True, check=False, **more)

    def left(name: str) -> dict[str, bytes]:
        """Tensors, optimisers' numbers and the model of every checkpoint."""
        paths = sorted(path for path in (folder / name).rglob("*") if path.suffix == ".safetensors")
        paths += sorted((folder / name).rglob("optimizer.json"))
        return {str(path.relative_to(folder / name)): path.read_bytes() for path in paths}

    died = run("two", killed=6)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert read_index(folder / "two")["last"] == "step-00000004"
    for name in ("two", "one"):
        done = run(name)
        assert done.returncode == 0, done.stderr
        assert ("continuing at step 4" in done.stderr) == (name == "two")
    assert files("two") == files("one")
    assert left("two") == left("one")
    assert any(name.endswith("step-00000008/training/optimizer.json") for name in left("one"))


@pytest.mark.sweep
def test_two_ranks_do_what_was_due(folder):
    """A signal to the second rank: in a validation, in the last step, twice in the last validation."""
    stops = [
        ["one", *nowhere],
        ["two", "validation_step", 4, 1, signal.SIGTERM],
        ["two", "training_step", 5, 1, signal.SIGINT],
        ["two", "validation_step", 6, 1, signal.SIGTERM],
        ["two", "validation_step", 6, 0, signal.SIGTERM],
        ["two", *nowhere],
        ["two", *nowhere],
    ]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "test"}
    common |= {"LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0"}
    options = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    ranks = [start(stops, *options, RANK=str(r), LOCAL_RANK=str(r), **common) for r in range(2)]
    said = [process.communicate(timeout=500) for process in ranks]
    codes = [[line.split()[-1] for line in out.splitlines() if "exit code" in line] for out, _ in said]
    assert codes == [["0", "143", "130", "143", "143", "0", "0"], ["0"] * len(stops)], said
    out, err = said[0]
    assert out.count("trained 6 steps; the model is in") == 3
    assert err.count("the same command continues") == 4
    assert err.count("continuing at step 6") == 3
    assert err.count("two is trained: 6 of 6 steps") == 1
    assert files("two") == files("one")
