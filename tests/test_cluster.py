"""Runs on several nodes and under SLURM: the scripts of configs/cluster, the signal, scontrol and the next start."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from test_commands_train import config
from test_lit import exact, train
from test_lit_stopped import Stop
from tiny import write
from written import environment, root

from align.lit import Checkpoints
from align.lit.requeue import find_job, list_signals, requeue

SCRIPTS = root / "configs" / "cluster"
STEPS = 6


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A SLURM job of one task. Returns the file in which its scontrol notes how it was called."""
    notes = tmp_path / "notes"
    stub(tmp_path / "bin" / "scontrol", f'#!/bin/sh\necho "$@" >> {notes}\n')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    slurm = {"JOB_ID": "42", "JOB_NAME": "align", "NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for name, value in (slurm | {"NODELIST": "localhost"}).items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    return notes


def stub(path: Path, text: str) -> Path:
    """Write a program."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return write(write(folder), "test", 20)


def test_slurms_signal_saves_requeues_and_the_next_start_goes_on_to_the_bit(shards, tmp_path, job, capsys):
    """Lightning's own handler would write a pickle and requeue too. SIGTERM, which scancel sends, requeues nothing."""
    train(shards, tmp_path / "straight", STEPS)
    checkpoint, run = Checkpoints(every_steps=100), tmp_path / "run"
    stops = [Stop(2, number=signal.SIGUSR1)]
    fitted = train(shards, run, STEPS, trainer={"callbacks": stops}, checkpoint=checkpoint)[1]
    assert fitted[:2] == (2, signal.SIGUSR1)
    assert job.read_text() == "requeue 42\n"
    assert "job 42 is requeued at step 2" in capsys.readouterr().err
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".ckpt", ".pt", ".bin")]
    fitted = train(shards, run, STEPS, trainer={"callbacks": [Stop(4)]}, checkpoint=checkpoint)[1]
    assert fitted[:2] == (4, signal.SIGTERM)
    assert train(shards, run, STEPS, checkpoint=checkpoint)[1][:2] == (STEPS, 0)
    assert capsys.readouterr().err.count("continuing at step") == 2
    assert job.read_text() == "requeue 42\n"
    assert exact(run) == exact(tmp_path / "straight")
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_outside_of_a_batch_job_the_signal_keeps_its_meaning():
    assert list_signals({}) == []
    assert list_signals({"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "interactive"}) == []
    assert list_signals({"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "align"}) == [signal.SIGUSR1]


def test_an_array_task_is_requeued_by_its_number():
    assert find_job({"SLURM_JOB_ID": "12"}) == "12"
    assert find_job({"SLURM_JOB_ID": "12", "SLURM_ARRAY_JOB_ID": "11", "SLURM_ARRAY_TASK_ID": "3"}) == "11_3"


@pytest.mark.parametrize(
    ("scontrol", "says"),
    [("exit 1", "job 7 is not requeued: exit code 1"), ("echo Access denied >&2; exit 2", "requeued: Access denied")],
)
def test_a_refusal_of_slurm_is_one_line(tmp_path, monkeypatch, capsys, scontrol, says):
    stub(tmp_path / "bin" / "scontrol", f"#!/bin/sh\n{scontrol}\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    requeue(signal.SIGUSR1, 3, {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "align"})
    assert capsys.readouterr().err.strip().endswith(says)


def test_data_workers_outlive_slurms_signal(monkeypatch):
    """SLURM sends it to every process of a step."""
    from align.data.pieces import start_worker

    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    try:
        start_worker(0)
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_the_slurm_script_asks_for_the_signal_and_starts_a_task_a_device(tmp_path):
    """Bash reads it, with an srun that notes its arguments."""
    script = SCRIPTS / "slurm.sh"
    asked = {line.split()[1] for line in script.read_text().splitlines() if line.startswith("#SBATCH")}
    assert {"--signal=USR1@120", "--requeue", "--open-mode=append", "--ntasks-per-node=4"} <= asked
    stub(tmp_path / "srun", '#!/bin/sh\necho "$@"\n')
    given = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "4"}
    done = subprocess.run(
        ["bash", script, "--seed", "1"], env=given | {"CONFIG": "c.yaml", "RUN": "r"}, capture_output=True, text=True
    )
    asked_for = "--trainer.strategy ddp --trainer.num_nodes 2 --trainer.devices 4 --seed 1"
    assert done.stdout.strip() == f"align train --config c.yaml --run r {asked_for}"


@pytest.mark.sweep  # two agents and four processes that import torch
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_nodes_with_their_own_addresses_train_the_run_of_one_process(shards, tmp_path, strategy):
    """Two torchrun agents, one at 127.0.0.1 and one at 127.0.0.2, as configs/cluster/torchrun.sh starts them."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    for path in shards.iterdir():
        shutil.copy(path, tmp_path)
    env = environment()
    precision, rel = ("64-true", 1e-12) if strategy == "ddp" else ("32-true", 1e-4)
    command = [sys.executable, "-m", "align", "train", "--config", "config.yaml", "--run", "one"]
    subprocess.run([*command, "--trainer.precision", precision], env=env, cwd=tmp_path, check=True, timeout=300)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    given = env | {"HEAD": "127.0.0.1", "PORT": port, "DEVICES": "1", "CONFIG": "config.yaml", "RUN": "two"}
    agents = []
    for node in range(2):
        call = f'exec {sys.executable} -m torch.distributed.run --local-addr 127.0.0.{node + 1} "$@"'
        stub(tmp_path / str(node) / "torchrun", f"#!/bin/sh\n{call}\n")
        here = given | {"NODE": str(node), "PATH": f"{tmp_path / str(node)}:{env['PATH']}"}
        keys = ["--trainer.precision", precision, "--trainer.strategy", strategy]
        agents.append(
            subprocess.Popen(
                ["bash", SCRIPTS / "torchrun.sh", *keys],
                env=here,
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    said = [agent.communicate(timeout=400) for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], said
    assert "trained 4 steps" in said[0][0]
    losses = []
    for run in ("one", "two"):
        with (tmp_path / run / "metrics.csv").open() as f:
            losses.append([float(row["loss"]) for row in csv.DictReader(f)])
    assert losses[0] == pytest.approx(losses[1], rel=rel)
