"""Builds that are stopped, killed and continued, or worked on by several processes: the bytes are those of one go."""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_data import content, png

from align.curation import Recode, build
from align.data import Shards, TooManyBad

SAMPLES, PER_SHARD = 60, 10

SLOW = """
import sys, time
from pathlib import Path
from align.curation import build
read = Path.read_bytes
def slow(self):
    time.sleep(0.02)
    return read(self)
slow.__name__ = "read_bytes"  # the name that a pickled method goes by
Path.read_bytes = slow
build(sys.argv[1], sys.argv[2], per_shard=10, workers=int(sys.argv[3]))
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    lines = ["image,text,label"]
    for i in range(SAMPLES):
        (folder / f"{i}.png").write_bytes(png(i))
        lines.append(f"{i}.png,thing {i},{'cat' if i % 3 else 'dog'}")
    (folder / "t.csv").write_text("\n".join(lines))
    return folder / "t.csv"


@pytest.fixture(scope="module")
def whole(table, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    build(table, out, per_shard=PER_SHARD)
    return content(out)


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_no_byte(table, whole, tmp_path, workers):
    build(table, tmp_path, per_shard=PER_SHARD, workers=workers)
    assert content(tmp_path) == whole


def test_workers_change_no_byte_of_what_is_written_anew(table, tmp_path):
    for workers in (0, 2):
        build(table, tmp_path / str(workers), recode=Recode(image_size=8, image_format="jpeg"), workers=workers)
    assert content(tmp_path / "0") == content(tmp_path / "2")


def test_a_full_disk_is_named_and_what_is_finished_is_kept(table, whole, tmp_path):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit[1]))  # a shard of ten is 30,720 bytes, of three 10,240
    try:
        build(table, tmp_path / "small", per_shard=3)
        with pytest.raises(OSError, match=r"File too large: .*train-000000\.tar"):
            build(table, tmp_path / "out", per_shard=PER_SHARD)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert not list((tmp_path / "out").glob("*tar*"))
    build(table, tmp_path / "out", per_shard=PER_SHARD)
    assert content(tmp_path / "out") == whole


@pytest.mark.slow
@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.sweep), 2])
def test_a_killed_build_continues_to_the_same_bytes(table, whole, tmp_path, workers):
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(table), str(tmp_path), str(workers)])
    deadline = time.monotonic() + 60
    while not (tmp_path / "train-000002.tar").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == workers
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    shards = sorted(tmp_path.glob("train-*.tar"))
    assert 3 <= len(shards) < SAMPLES // PER_SHARD
    assert all(whole[path.name] == path.read_bytes() for path in shards)  # what has its name is whole
    assert not (tmp_path / "manifest.json").exists()
    before = {path.name: path.stat().st_mtime_ns for path in shards[:2]}
    build(table, tmp_path, per_shard=PER_SHARD)
    assert content(tmp_path) == whole
    assert {
        name: (tmp_path / name).stat().st_mtime_ns for name in before
    } == before  # kept; the third may wait for its line
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(Path(f"/proc/{child}").exists() for child in children)  # no orphan waits for ever


def stopped(samples, at, error=KeyboardInterrupt):
    for i, sample in enumerate(samples):
        if i == at:
            raise error
        yield sample


def given(n=45):
    return [(f"k{i:03d}", {"image.png": png(i), "json": {"label": i % 2}, "text.txt": f"a {i}"}) for i in range(n)]


def interrupted(out, samples, at=35, **options):
    with pytest.raises(KeyboardInterrupt):
        build(stopped(samples, at), out, per_shard=10, **options)
    return {path.name: path.stat().st_mtime_ns for path in sorted(out.glob("*.tar"))}


def kept(out, before):
    return [name for name, when in before.items() if (out / name).stat().st_mtime_ns == when]


def test_a_program_that_was_stopped_continues(tmp_path):
    build(given(), tmp_path / "whole", per_shard=10)
    before = interrupted(tmp_path / "out", given())
    assert len(before) == 3
    build(iter(given()), tmp_path / "out", per_shard=10)
    assert kept(tmp_path / "out", before) == list(before)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.mark.parametrize(
    ("change", "n"),
    [("a sample", 1), ("an option", 0), ("anew", 0), ("a shard", 2), ("a shard's time", 3), ("a torn line", 2)],
)
def test_only_what_is_the_same_is_kept(tmp_path, change, n):
    out, samples, options = tmp_path / "out", given(), {}
    before = interrupted(out, samples)
    journal = out / ".train.build.jsonl"
    if change == "a sample":
        samples[15] = ("k015", {"text.txt": "another"})
    elif change == "an option":
        options = {"recode": Recode(image_quality=50)}
    elif change == "anew":
        options = {"resume": False}
    elif change == "a shard":
        data = bytearray((out / "train-000002.tar").read_bytes())
        data[600] ^= 1
        (out / "train-000002.tar").write_bytes(data)
        before["train-000002.tar"] = 0
    elif change == "a shard's time":
        os.utime(out / "train-000001.tar", ns=(5, 5))
        before["train-000001.tar"] = 5
    elif change == "a torn line":
        journal.write_bytes(journal.read_bytes()[:-9])
    build(iter(samples), tmp_path / "whole", per_shard=10, **options)
    build(iter(samples), out, per_shard=10, **options)
    assert kept(out, before) == list(before)[:n]
    assert content(out) == content(tmp_path / "whole")
    assert not journal.exists()


def test_a_source_that_grew_gets_no_short_shard_in_the_middle(tmp_path):
    samples = given()
    samples[12] = ("k012", {"image.png": b"broken"})
    with pytest.raises(TooManyBad):
        build(iter([*samples, *(("x" + str(i), {"image.png": b"no"}) for i in range(5))]), tmp_path, recode=Recode(8))
    build(iter(samples[:12]), tmp_path, recode=Recode(8))
    assert [len(Shards(path)) for path in sorted(tmp_path.glob("*.tar"))] == [12]


def test_two_builds_do_not_write_one_split(tmp_path):
    code = (
        "import fcntl, sys, time\nfile = open(sys.argv[1], 'a+b')\nfcntl.lockf(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\ntime.sleep(60)"
    )
    journal = str(tmp_path / ".train.build.jsonl")
    process = subprocess.Popen([sys.executable, "-c", code, journal], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError, match="another process is building here"):
            build(given(), tmp_path)
        process.kill()
        process.wait()
    build(given(), tmp_path)  # a lock does not outlive its process


def test_a_worker_that_dies_is_one_line_and_nothing_is_lost(tmp_path, monkeypatch):
    building = importlib.import_module("align.curation.build")  # the package's `build` is the function

    real = building.prepare

    def deadly(state, item):
        if item.key == "k025":
            os.kill(os.getpid(), signal.SIGKILL)
        return real(state, item)

    monkeypatch.setattr(building, "prepare", deadly)
    with pytest.raises(ChildProcessError, match="a worker process ended, killed or out of memory"):
        build(given(), tmp_path, per_shard=4, workers=1)
    monkeypatch.undo()
    build(given(), tmp_path, per_shard=4)
    assert len(Shards(tmp_path / "*.tar")) == 45


def test_what_was_bad_is_remembered_over_a_stop(tmp_path):
    samples = given()
    samples[3][1]["image.png"] = b"broken"
    for out, at in (("whole", 99), ("out", 35)):
        with pytest.raises(KeyboardInterrupt) if at < 45 else pytest.MonkeyPatch.context():
            found = build(stopped(samples, at), tmp_path / out, per_shard=10, recode=Recode(8), max_bad=0.5)
            assert found == {"train": 45, "left out": 0, "bad": 1}
    build(iter(samples), tmp_path / "out", per_shard=10, recode=Recode(8), max_bad=0.5)
    lines = (tmp_path / "out" / "train-bad.jsonl").read_text().splitlines()
    detail = "no picture; JPEG, PNG, WEBP, GIF, BMP, TIFF and AVIF are read; it starts with b'broken'"
    assert [json.loads(line) for line in lines] == [
        {"key": "k003", "member": "image.png", "reason": "image/not-an-image", "detail": detail}
    ]
    assert content(tmp_path / "out") == content(tmp_path / "whole")
