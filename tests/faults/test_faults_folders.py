"""Row 31: two runs in one folder, a clock that jumps, a home that cannot be written, odd locales and paths."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from test_commands_train import config
from tiny import write
from written import environment

from align.commands import main


def prepare(folder: Path) -> list[str]:
    """Write shards and a config without validation. Returns the command."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder)
    data = {**config["data"], "train": str(folder / "train-*.tar"), "val": None}
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "data": data, "trainer": {**config["trainer"]}}))
    return ["train", "--config", str(folder / "config.yaml"), "--run", str(folder / "run")]


def losses(run: Path) -> list[str]:
    with (run / "metrics.csv").open(newline="") as f:
        return [row["loss"] for row in csv.DictReader(f)]


def test_a_second_run_in_the_folder(fault, tmp_path, capsys):
    """The first is a thread's lock; ``test_run_lock.py`` kills processes and waits for other hosts."""
    from align.lit.run_lock import lock_run

    row = fault("31", "two runs in one folder", refused=True, seconds=fault.most(20.0), first_unaffected=True)
    command = prepare(tmp_path)
    leave, there = threading.Event(), threading.Event()

    def hold() -> None:
        with lock_run(tmp_path / "run"):
            there.set()
            leave.wait()

    first = threading.Thread(target=hold)
    first.start()
    there.wait()
    begin = time.monotonic()
    code = main(command)
    seconds = time.monotonic() - begin
    left = sorted(p.name for p in (tmp_path / "run").iterdir())
    leave.set()
    first.join()
    lines = capsys.readouterr().err.strip().splitlines()
    refused = code == 1 and len(lines) == 1 and f"is being trained by pid {os.getpid()} on host" in lines[0]
    row.measured(refused=refused, seconds=seconds, first_unaffected=left == ["train.claim", "train.json"])


def test_a_clock_that_jumps_and_a_path_with_spaces(fault, tmp_path, monkeypatch):
    row = fault("31", "the clock jumps a year; a path with spaces and accents", same_losses=True, ends=0)
    assert main(prepare(tmp_path / "plain")) == 0
    before, calls = time.time, []

    def jumping() -> float:
        calls.append(1)
        return before() + 3e7 * (-1) ** len(calls)

    monkeypatch.setattr(time, "time", jumping)
    folder = tmp_path / "a path with spaces, ä and 'quotes'"
    code = main(prepare(folder))
    row.measured(same_losses=losses(folder / "run") == losses(tmp_path / "plain/run"), ends=code)


@pytest.mark.sweep
@pytest.mark.parametrize("odd", ["a home that cannot be written", "a locale that is no UTF-8"])
def test_odd_surroundings(fault, tmp_path, odd):
    row = fault("31", odd, ends=0, same_losses=True)
    command = prepare(tmp_path / "ä b")
    env = environment()
    if "home" in odd:
        env |= {"HOME": "/dev/null/none", "XDG_CACHE_HOME": "/dev/null/none"}
        env.pop("ALIGN_CACHE", None)
    else:
        env |= {"LC_ALL": "C", "LANG": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    ran = subprocess.run(
        [sys.executable, "-m", "align", *command], env=env, capture_output=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stderr.decode(errors="replace")[-2000:]
    assert main(prepare(tmp_path / "plain")) == 0
    row.measured(ends=ran.returncode, same_losses=losses(tmp_path / "ä b/run") == losses(tmp_path / "plain/run"))


@pytest.mark.sweep
def test_a_disk_that_fills_while_a_run_trains(fault, tmp_path):
    """A limit of the size of files stands for the disk: writes fail in Rust and Python alike, in the middle."""
    row = fault("4", "a disk that fills while a run trains", lost=0, lines=1, code=1, continued=True)
    command = prepare(tmp_path)
    code = "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); import align.commands as c; "
    first = [*command, "--checkpoint.every_steps", "2", "--trainer.max_steps", "2"]
    ran = subprocess.run([sys.executable, "-m", "align", *first], env=environment(), capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr
    checkpoint = tmp_path / "run/checkpoints/step-00000002"
    before = {p: p.read_bytes() for p in checkpoint.rglob("*") if p.is_file()}
    size = max(len(content) for content in before.values()) - 100  # the optimiser's state has no room
    code += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size})); sys.exit(c.main(sys.argv[1:]))"
    more = [*command, "--trainer.max_steps", "4"]
    ran = subprocess.run([sys.executable, "-c", code, *more], env=environment(), capture_output=True, check=False)
    lines = [line for line in ran.stderr.decode().splitlines() if line.startswith("align: ")]
    assert f"{tmp_path / 'run/checkpoints/step-00000004'} cannot be written: File too large; it needs" in lines[0]
    lost = sum(not p.exists() or p.read_bytes() != content for p, content in before.items())
    after = main(more)
    row.measured(lost=lost, lines=len(lines), code=ran.returncode, continued=after == 0)
