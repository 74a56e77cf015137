"""One process trains in a run folder at a time: the second is refused at once, and a dead one keeps nobody out."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from forked import run_script
from written import environment

from align.files.claims import Claims
from align.lit import run_lock
from align.lit.run_lock import check_lock, describe_age, lock_run

KILLED = """
import json
import os
import signal
import sys
import time
import warnings
from pathlib import Path

from align.lit.run_lock import lock_run

warnings.simplefilter("ignore")  # of forks beside threads
run = Path(sys.argv[1])
read, write = os.pipe()
holder = os.fork()
if not holder:
    with lock_run(run):
        worker = os.fork()  # a data worker has the files of its parent
        if worker:
            os.write(write, b"%d" % worker)
        time.sleep(600)
worker = int(os.read(read, 20))
said = ""
try:
    with lock_run(run):
        pass
except ValueError as error:
    said = str(error)
os.kill(holder, signal.SIGKILL)
os.waitpid(holder, 0)
os.kill(worker, 0)
with lock_run(run):
    after = json.loads((run / "train.json").read_text())["pid"]
os.kill(worker, signal.SIGKILL)
print(json.dumps([f"by pid {holder} on host" in said, after == os.getpid()]))
"""


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(run_lock, "Claims", lambda folder: Claims(folder, beat=0.05, lease=0.5))


def test_a_second_run_is_refused_with_host_pid_and_age(tmp_path):
    run = tmp_path / "run"
    with lock_run(run):
        begin = time.monotonic()
        with pytest.raises(ValueError, match="is being trained by pid") as caught, lock_run(run):
            pass
        assert time.monotonic() - begin < 5
        assert f"pid {os.getpid()} on host {os.uname().nodename} since 0 s; stop that run, or" in str(caught.value)
        check_lock(run)
        assert sorted(p.name for p in run.iterdir()) == ["train.claim", "train.json"]
    assert not run.exists()  # as nothing was written
    with lock_run(run):
        (run / "metrics.csv").write_text("step,loss\n")
    assert [p.name for p in run.iterdir()] == ["metrics.csv"]


def test_a_killed_run_keeps_nobody_out_though_its_worker_lives(tmp_path):
    (tmp_path / "killed.py").write_text(KILLED)
    done = run_script(tmp_path / "killed.py", str(tmp_path / "run"), env=environment())
    assert done.stdout == "[true, true]\n", done.stderr


def test_another_hosts_run_is_refused_once_it_moves_and_taken_over_where_it_does_not(tmp_path, quick, capsys):
    claim = tmp_path / "train.claim"
    (tmp_path / "train.json").write_text('{"host": "node7", "pid": 12}')

    def write(beats: int) -> None:
        claim.write_text(f"{'a' * 32} another-boot:7 {beats:012d}\n")

    write(4000)
    with lock_run(tmp_path):  # dead for the lease
        assert f"pid {os.getpid()}" in run_lock._describe(tmp_path, 0)
    said = capsys.readouterr().err
    assert "is being trained by pid 12 on host node7 since 3 min, as far as one can see; waiting up to" in said
    write(4000)
    (tmp_path / "train.json").write_text('{"host": "node7", "pid": 12}')

    def beat(seconds: float) -> None:
        write(4001)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_lock.time, "sleep", beat)
        with pytest.raises(ValueError, match="by pid 12 on host node7"), lock_run(tmp_path):
            pass


def test_where_files_cannot_be_locked_a_dead_run_is_waited_for(tmp_path, quick, monkeypatch):
    import fcntl

    from align.files import claims

    monkeypatch.setattr(fcntl, "flock", lambda *a: (_ for _ in ()).throw(OSError(95, "Operation not supported")))
    with lock_run(tmp_path):
        content = (tmp_path / "train.claim").read_bytes()
        with pytest.raises(ValueError, match="is being trained"), lock_run(tmp_path):
            pass
    (tmp_path / "train.claim").write_bytes(content)  # as a killed process leaves it
    assert claims.Claims(tmp_path).read("train") == (False, int(content[-13:]))
    with lock_run(tmp_path):
        assert (tmp_path / "train.json").exists()


def test_a_run_that_was_taken_over_writes_no_more(tmp_path):
    with lock_run(tmp_path):
        claim = tmp_path / "train.claim"
        content = claim.read_bytes()
        claim.unlink()
        claim.write_bytes(content)
        with pytest.raises(RuntimeError, match="was taken over by another process"):
            check_lock(tmp_path)
    assert claim.exists()  # it is the other's


def test_other_ranks_take_no_lock(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with lock_run(tmp_path), lock_run(tmp_path):
        assert not list(tmp_path.iterdir())


def test_what_a_killed_run_left_is_removed_and_what_is_not_its_stays(tmp_path):
    inside = tmp_path / "checkpoints/step-00000002/training"
    inside.mkdir(parents=True)
    mark = "0123456789ab"
    left = [tmp_path / f".model.{mark}.tmp", tmp_path / f".metrics.csv.{mark}.tmp", inside / f".state.json.{mark}.tmp"]
    left.append(tmp_path / f"checkpoints/.step-00000004.{mark}.tmp")
    others = tmp_path / f".results.json.{mark}.tmp"  # of an evaluation that is running
    for path in (*left, others):
        path.write_text("")
    old = Path(tmp_path / f"checkpoints/.step-00000003.{mark}.old")
    old.mkdir()
    with lock_run(tmp_path):
        assert not [path for path in left if path.exists()]
        assert others.exists()
        assert (tmp_path / "checkpoints/step-00000003").is_dir()


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (119, "119 s"), (180, "3 min"), (7300, "2 h"), (200_000, "2 days")]
)
def test_ages(seconds, said):
    assert describe_age(seconds) == said
