"""`align train` as a user meets it: bad input gets one line, Ctrl-C leaves a checkpoint, the same command continues."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from forked import run_script
from tiny import write
from written import environment

from align.commands import main
from align.diagnostics import read_environments, read_measures

config = {
    "model": {
        "dim": 4,
        "towers": {
            m: {
                "preprocess": {"class_path": "align.preprocess.Array", "init_args": {"shape": [6]}},
                "encoder": {"class_path": "align.encoders.Precomputed", "init_args": {"width": 6}},
                "head": {"class_path": "align.heads.MLP", "init_args": {"hidden": 8}},
            }
            for m in ("image", "audio", "text")
        },
    },
    "objective": {"terms": {"pairs": {"loss": "align.losses.InfoNCE", "between": "all"}}},
    "data": {"train": "train-*.tar", "val": "test-*.tar", "batch": 12, "workers": 0},
    "trainer": {"accelerator": "cpu", "logger": False, "max_steps": 4},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with shards and config.yaml; the working directory."""
    write(tmp_path)
    write(tmp_path, "test", 20)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys, args: list[str], code: int) -> str:
    """The one line on stderr that a command ends with."""
    assert main(args) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("align: ")
    return lines[0]


def changed(path: Path, **changes) -> Path:
    """The config with some of its top-level keys updated."""
    new = {**config, **{k: {**config.get(k, {}), **v} if isinstance(v, dict) else v for k, v in changes.items()}}
    path.write_text(yaml.safe_dump(new))
    return path


def test_a_config_trains_and_says_what_is_next(folder, capsys):
    assert main(["train", "--config", "config.yaml", "--run", "run"]) == 0
    captured = capsys.readouterr()
    assert "next: align evaluate run" in captured.out
    assert "step 4/4" in captured.err
    assert (folder / "run/model/model.safetensors").exists()
    saved = yaml.safe_load((folder / "run/config.yaml").read_text())
    assert saved["model"]["dim"] == 4
    # what was saved is a config: it trains the same run
    assert main(["train", "--config", "run/config.yaml", "--run", "again"]) == 0
    same = [(folder / run / "model/model.safetensors").read_bytes() for run in ("run", "again")]
    assert same[0] == same[1]


def test_any_value_can_be_given_on_the_command_line(folder):
    args = [
        "--model.dim",
        "5",
        "--model.towers.image.head.hidden",
        "3",
        "--trainer.max_steps",
        "2",
        "--optim.lr",
        "0.1",
    ]
    assert main(["train", "--config", "config.yaml", "--run", "run", *args]) == 0
    saved = yaml.safe_load((folder / "run/config.yaml").read_text())
    assert (saved["model"]["dim"], saved["trainer"]["max_steps"], saved["optim"]["lr"]) == (5, 2, 0.1)
    with (folder / "run/metrics.csv").open() as f:
        assert len(list(csv.DictReader(f))) == 2


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": {"dmi": 3}}, "no key 'model.dmi'; did you mean dim?"),
        ({"objectiv": {}}, "no key 'objectiv'; did you mean objective?"),
        ({"data": {"batch_size": 3}}, "no key 'data.batch_size'; did you mean batch?"),
        ({"trainer": {"max_stepz": 3}}, "no key 'trainer.max_stepz'; did you mean max_steps?"),
        ({"data": {"batch": "many"}}, "data.batch"),
        ({"data": {"batch": 0}}, "data.batch must be at least 1"),
        ({"data": {"batch": 5000}}, "hold 48 samples, fewer than data.batch=5000: lower it"),
        ({"data": {"train": "nothing-*.tar"}}, "nothing-*.tar"),
        ({"objective": {"terms": {"a": {"loss": "align.losses.InfoNCE", "between": ["image", "txet"]}}}}, "'text'"),
        (
            {"objective": {"terms": {"a": {"loss": "align.losses.InfoNEC", "between": "all"}}}},
            "no InfoNEC; did you mean InfoNCE?",
        ),
        ({"checkpoint": {"monitor": "val/los"}}, "val/los"),
        ({"trainer": {"accumulate_grad_batches": 2}}, "write its size as data.batch, and chunk: 64"),
        ({"chunk": 0}, "chunk is the number of rows that a tower reads at a time, at least 1; got 0"),
        (
            {"chunk": {"imgae": 8}},
            "chunk names 'imgae', the model has towers of audio, image, text; did you mean 'image'?",
        ),
    ],
)
def test_a_wrong_config_is_one_line_and_exit_code_1(folder, capsys, changes, says):
    changed(folder / "config.yaml", **changes)
    assert says in refused(capsys, ["train", "--config", "config.yaml", "--run", "run"], 1)
    assert not (folder / "run" / "metrics.csv").exists()


def test_a_wrong_tower_argument_names_the_key(folder, capsys):
    towers = {"image": {**config["model"]["towers"]["image"]}}
    towers["image"]["encoder"] = {"class_path": "align.encoders.Precomputed", "init_args": {"widht": 6}}
    changed(folder / "config.yaml", model={"towers": towers}, objective=config["objective"])
    line = refused(capsys, ["train", "--config", "config.yaml", "--run", "run"], 1)
    assert "align.encoders.Precomputed has no argument 'widht'; did you mean width?" in line


def test_a_tower_that_no_shard_has_rows_for_is_refused(folder, capsys):
    towers = {f"my_{name}" if name == "image" else name: tower for name, tower in config["model"]["towers"].items()}
    changed(
        folder / "config.yaml",
        model={"towers": towers},
        objective={"terms": {"a": {"loss": "align.losses.InfoNCE", "between": "all"}}},
    )
    line = refused(capsys, ["train", "--config", "config.yaml", "--run", "run"], 1)
    assert "the training shards have no row of my_image; they have " in line
    assert not (folder / "run/metrics.csv").exists()


def test_python_m_align_is_the_program():
    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "align", *args], capture_output=True, text=True, timeout=120)

    assert run("--help").stdout.startswith("usage: align COMMAND")
    assert run("zeroshot", "--help").stdout.startswith("usage: align zeroshot ")
    wrong = run("trian")
    assert (wrong.returncode, wrong.stderr[:7], wrong.stderr.count("\n")) == (2, "align: ", 1)


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_is_no_error(folder):
    command = f"{sys.executable} -m align shards stats . --json | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""


def test_shards_without_the_modalities_are_refused_with_what_they_have(folder, capsys):
    towers = {f"my_{name}": tower for name, tower in config["model"]["towers"].items()}
    changed(folder / "config.yaml", model={"towers": towers})
    line = refused(capsys, ["train", "--config", "config.yaml", "--run", "run"], 1)
    assert "my_image" in line
    assert "image (" in line


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["train"], None),
        (["train", "--run", "run"], "needs --config"),
        (["train", "--config", "config.yaml"], "needs --run"),
        (["train", "--confg", "config.yaml"], "no option --confg; did you mean --config?"),
        (
            ["train", "--config", "config.yaml", "--run", "run", "--model.dmi", "3"],
            "no option --model.dmi; did you mean",
        ),
        (["train", "--config", "config.yaml", "--run", "run", "--model.dim", "x"], "model.dim"),
        (["train", "--config", "config.yaml", "--run", "run", "--trainer.accumulate_grad_batches=2"], "and chunk: 64"),
        (["trian"], "did you mean train?"),
        (["shards", "shwo"], "did you mean shards show?"),
        (["search", "run", "--tpo", "3"], "no option --tpo"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(folder, capsys, args, says):
    if says is None:
        assert main(args) == 0  # the help
        return
    assert says in refused(capsys, args, 2)


def test_a_missing_config_and_a_folder_that_is_no_model(folder, capsys):
    assert "no config file nope.yaml" in refused(capsys, ["train", "--config", "nope.yaml", "--run", "run"], 1)
    (folder / "empty").mkdir()
    assert "empty is no model folder" in refused(capsys, ["evaluate", "empty", "test-000000.tar"], 1)
    assert "no model folder nowhere" in refused(capsys, ["evaluate", "nowhere", "test-000000.tar"], 1)


interrupted = """
import json, os, signal, sys, threading, time
from pathlib import Path
from align.commands import main

def interrupt():
    while not Path("run/metrics.csv").exists():
        time.sleep(0.02)
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in children.read_text().split():
            os.kill(int(pid), signal.SIGINT)
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
words = ["train", "--config", "config.yaml", "--run", "run", "--data.workers", "1"]
words += ["--checkpoint.every_steps", "100000"]
code = main([*words, "--trainer.max_steps", "100000"])
step = int(json.loads(Path("run/checkpoints/index.json").read_text())["last"][5:])
print("stopped", code, step, flush=True)
print("continued", main([*words, "--trainer.max_steps", str(step + 2)]), flush=True)
"""


@pytest.mark.slow
def test_a_signal_leaves_a_checkpoint_and_the_same_command_continues(folder):
    """Ctrl-C to every process, data workers first. A sweep starts the commands by themselves, with either signal."""
    (folder / "interrupted.py").write_text(interrupted)
    done = run_script(folder / "interrupted.py", env=environment())
    assert done.returncode == 0, done.stderr
    code, step = next(map(int, line.split()[1:]) for line in done.stdout.splitlines() if line.startswith("stopped"))
    assert (code, "continued 0" in done.stdout) == (130, True)
    assert 0 < step < 100000
    assert "the same command continues" in done.stderr
    assert f"continuing at step {step}" in done.stderr
    assert "Traceback" not in done.stderr
    with (folder / "run/metrics.csv").open() as f:
        assert [int(row["step"]) for row in csv.DictReader(f)] == list(range(1, step + 3))


@pytest.mark.sweep
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_of_its_own_is_stopped_and_continues(folder, number, code):
    """To every process, data workers first, as a terminal or a scheduler may send it."""
    command = [sys.executable, "-m", "align", "train", "--config", "config.yaml", "--run", "run"]
    command += ["--data.workers", "2", "--trainer.max_steps", "100000", "--checkpoint.every_steps", "100000"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    start = time.monotonic()
    while not (folder / "run/metrics.csv").exists() and time.monotonic() - start < 120:
        time.sleep(0.1)
    for children in Path(f"/proc/{process.pid}/task").glob("*/children"):
        for pid in children.read_text().split():
            os.kill(int(pid), number)
    time.sleep(0.2)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "the same command continues" in err
    assert "Traceback" not in err
    step = int(json.loads((folder / "run/checkpoints/index.json").read_text())["last"][5:])
    assert step < 100000
    command[-3] = str(step + 5)
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"continuing at step {step}" in done.stderr
    with (folder / "run/metrics.csv").open() as f:
        assert [int(row["step"]) for row in csv.DictReader(f)] == list(range(1, step + 6))


ranks = """
import os, sys
from align.commands import main

os.environ["LOCAL_RANK"] = os.environ["RANK"] = "0" if os.fork() else "1"
code = main(sys.argv[1:])
assert os.environ["RANK"] == "1" or os.wait()[1] == 0
sys.exit(code)
"""


@pytest.mark.sweep
@pytest.mark.parametrize("start", ["command", pytest.param("ranks", marks=pytest.mark.sweep)])
def test_two_ranks_train_the_run_of_one_process(folder, start):
    """DDP over gloo on a set with holes, float64: the same losses to rounding."""
    same = ["train", "--config", "config.yaml", "--trainer.precision", "64-true"]
    assert main([*same, "--run", "one"]) == 0
    two = [*same, "--run", "two", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    if start == "command":
        done = subprocess.run([sys.executable, "-m", "align", *two], env=environment(), capture_output=True, text=True)
    else:  # as torchrun starts them
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        torchrun = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "test"}
        torchrun |= {"LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0"}
        (folder / "ranks.py").write_text(ranks)
        done = run_script(folder / "ranks.py", *two, env=environment() | torchrun)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained 4 steps") == 1
    losses = []
    for run in ("one", "two"):
        with (folder / run / "metrics.csv").open() as f:
            losses.append([float(row["loss"]) for row in csv.DictReader(f)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    one, two = (read_measures(folder / run) for run in ("one", "two"))
    assert [(a.step, a.facts, a.histograms) for a in one] == [(b.step, b.facts, b.histograms) for b in two]
    for a, b in zip(one, two, strict=True):
        assert a.scores == pytest.approx(b.scores, rel=1e-5)
    assert [start["world"] for run in ("one", "two") for start in read_environments(folder / run)] == [1, 2]
