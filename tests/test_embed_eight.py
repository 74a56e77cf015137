"""Eight processes of ``align embed`` on one list of parts, one of which is killed at a random moment."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import tiny_cache as tiny

from align.checkpoint import save
from align.commands import main
from align.embedding.features import part, run
from align.files import read_json, sha256

PARTS, PROCESSES = 32, 8


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with 32 small shards, the model photos, and its cache by one process."""
    folder = tmp_path_factory.mktemp("eight")
    tiny.write_shards(folder / "shards", 5 * PARTS, 5)
    save(tiny.make_model(), folder / "photos")
    assert main(command(folder, folder / "alone")) == 0
    return folder


def command(folder, out):
    shards = str(folder / "shards" / "train-*.tar")
    named = ["--towers", "image,text", "--name", "all", "--allow", "tiny_cache"]
    return ["embed", str(folder / "photos"), shards, "--out", str(out), "--features", *named]


def sums(folder):
    return {path.name: sha256(path) for path in sorted((folder / "all").iterdir())}


def check(place, out):
    assert sums(out) == sums(place / "alone")
    assert read_json(out / "cache.json") == read_json(place / "alone" / "cache.json")
    assert {path.name for path in out.iterdir()} == {"all", "cache.json"}
    assert not list((out / "all").glob(".*"))
    assert len(list((out / "all").glob("*.tar"))) == PARTS


def read_lines(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def fork(work) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        code = work()
    finally:
        os._exit(code)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(i, marks=pytest.mark.sweep) for i in range(2, 12))])
def test_no_part_is_made_twice_and_none_is_missing(place, tmp_path, monkeypatch, seed):
    """Makings are counted where a part is begun and where it is done. Forked, so that torch is imported one time."""
    draw, log, out = random.Random(seed), tmp_path / "log", tmp_path / "c"
    write_part, encode = run.write_part, part.encode

    def note(word, place):
        with open(log, "a") as file:  # one write of a short line is not torn
            file.write(f"{word} {os.getpid()} {place.name}\n")

    def noted(work, place, *rest):
        note("begin", place)
        write_part(work, place, *rest)
        note("end", place)

    def slow(*args):  # so that nobody is done with the list when one is killed
        time.sleep(0.2)
        return encode(*args)

    monkeypatch.setattr(run, "write_part", noted)
    monkeypatch.setattr(part, "encode", slow)
    monkeypatch.setattr(run, "POLL", 0.05)

    def work(rank):
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(PROCESSES)}
        return main(command(place, out))

    children = [fork(lambda rank=rank: work(rank)) for rank in range(PROCESSES)]
    after, victim, deadline = draw.randrange(1, PARTS // 2), None, time.monotonic() + 120
    while time.monotonic() < deadline:
        begun = [int(pid) for word, pid, _ in read_lines(log) if word == "begin"]
        if len(begun) >= after:
            victim = draw.choice(sorted(set(begun)))
            break
        time.sleep(0.002)
    assert victim is not None
    time.sleep(draw.random() * 0.1)
    os.kill(victim, signal.SIGKILL)
    codes = {child: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children}
    assert codes == {child: -signal.SIGKILL if child == victim else 0 for child in children}
    check(place, out)

    lines = read_lines(log)
    ended = Counter(name for word, _, name in lines if word == "end")
    begun = Counter(name for word, _, name in lines if word == "begin")
    of_victim = {
        word: [name for w, pid, name in lines if w == word and int(pid) == victim] for word in ("begin", "end")
    }
    torn = set(of_victim["begin"]) - set(of_victim["end"])
    assert len(torn) <= 1
    assert set(begun) == set(sums(out)) & {f"train-{i:06d}.tar" for i in range(PARTS)}
    assert {name for name, n in begun.items() if n > 1} <= torn  # its open part alone is made again
    assert max(begun.values()) <= 2
    assert {name for name, n in ended.items() if n != 1} == set()
    assert set(begun) - set(ended) <= torn  # killed between the rename and its line
    assert len({pid for word, pid, _ in lines if word == "end"}) >= PROCESSES // 2  # the work was shared


HOOK = """
import os, sys
def note(event, args):
    if event == "os.rename" and str(args[1]).endswith(".tar"):
        with open(os.environ["RENAMES"], "a") as file:
            file.write(f"{os.getpid()} {os.path.basename(args[1])}\\n")
sys.addaudithook(note)
"""


@pytest.mark.sweep  # eight imports of torch
def test_eight_processes_of_the_command_itself(place, tmp_path):
    """Makings are counted by the renames into place, which Python reports. One process dies while parts are made."""
    (tmp_path / "sitecustomize.py").write_text(HOOK)
    out, renames = tmp_path / "c", tmp_path / "renames"
    path = os.pathsep.join([str(tmp_path), str(Path(tiny.__file__).parent), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "RENAMES": str(renames), "WORLD_SIZE": str(PROCESSES)}
    words = [sys.executable, "-m", "align", *command(place, out)]
    deadline = time.monotonic() + 600
    with open(tmp_path / "log", "w") as log:
        running = [
            subprocess.Popen(words, env={**env, "RANK": str(rank)}, stderr=log, stdout=log) for rank in range(PROCESSES)
        ]
        while not read_lines(renames) and time.monotonic() < deadline:
            time.sleep(0.001)
        victim = int(read_lines(renames)[0][0])
        os.kill(victim, signal.SIGKILL)
        codes = {process.pid: process.wait(600) for process in running}
    assert codes == {pid: -signal.SIGKILL if pid == victim else 0 for pid in codes}, (tmp_path / "log").read_text()
    check(place, out)
    made = Counter(name for _, name in read_lines(renames))
    of_victim = {name for pid, name in read_lines(renames) if int(pid) == victim}
    twice = {name for name, n in made.items() if n > 1}  # renamed by the victim, and killed before its record was there
    assert set(made) == {f"train-{i:06d}.tar" for i in range(PARTS)}
    assert twice <= of_victim
    assert len(twice) <= 1


def test_a_set_that_another_process_finishes_at_the_start_is_whole(place, tmp_path, monkeypatch):
    """This one has seen some of the parts; then the others end, and remove the plan."""
    out, agree = tmp_path / "c", run.Run.agree
    shutil.copytree(place / "alone" / "all", out / "all")
    for left in sorted((out / "all").iterdir())[-2:]:
        left.unlink()

    def late(self):
        shutil.rmtree(out)
        shutil.copytree(place / "alone", out)
        agree(self)

    monkeypatch.setattr(run.Run, "agree", late)
    assert main(command(place, out)) == 0
    check(place, out)


def test_parts_without_a_plan_are_refused(place, tmp_path, capsys):
    shutil.copytree(place / "alone" / "all", tmp_path / "c" / "all")
    assert main(command(place, tmp_path / "c")) == 1
    assert "has parts and no plan; remove that folder" in capsys.readouterr().err
