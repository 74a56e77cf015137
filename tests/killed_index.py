"""Kill an index's writer at each of its system calls, and look at what is left: ``python killed_index.py OPERATION``.

Each try is a forked child that strace kills when it enters call number N of one kind, before the call is made. Prints a
line of JSON: kills, by the call's name, and a line for each state that is neither the one before nor the one after.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from align.search.item import Item
from align.search.local import LocalIndex
from align.search.local import change as changes
from align.values import Rows

CALLS = ("pwrite64", "write", "fsync", "fdatasync", "ftruncate", "rename", "unlink", "unlinkat", "mkdir", "openat")
D = 4


def draw_items(start, n):
    """Items with every kind of entry, and two rows of an image each."""
    items = [
        Item(
            f"k{i}",
            {"shard": f"/{i % 2}.tar", "key": f"k{i}"},
            [f"dog {i} 猫が好き"],
            {"a": i % 3},
            {"n": i, "t": ["x"]},
        )
        for i in range(start, start + n)
    ]
    values = torch.randn(2 * n, D, generator=torch.Generator().manual_seed(start))
    return {"image": Rows(values, torch.arange(2 * n) // 2), "audio": Rows(values[:n], torch.arange(n))}, items


def create(folder):
    """Make an index."""
    LocalIndex.create(folder, {"model": {"source": "m", "sha256": "f"}}).close()


def add(folder):
    """Add 30 samples, with a note of their source."""
    with LocalIndex.open(folder, write=True) as index, index.change() as change:
        rows, items = draw_items(100, 30)
        change.add(rows, items)
        change.source("/0.tar", {"size": 1})
        change.about(threshold=0.5)


def delete(folder):
    """Delete three samples."""
    with LocalIndex.open(folder, write=True) as index, index.change() as change:
        change.delete(["k1", "k5", "k7"])


def compact(folder):
    """Compact the index."""
    with LocalIndex.open(folder, write=True) as index:
        index.compact()


OPERATIONS = {"create": create, "add": add, "delete": delete, "compact": compact}


def prepare(folder, operation):
    """Make the folder in which an operation starts."""
    if operation == "create":
        return
    create(folder)
    with LocalIndex.open(folder, write=True) as index:
        for start in (0, 20):
            with index.change() as change:
                change.add(*draw_items(start, 20))
        if operation == "compact":
            index.delete(["k2", "k30"])


def read(folder):
    """Everything that an index answers, or None where there is none."""
    try:
        index = LocalIndex.open(folder)
    except FileNotFoundError:
        return None
    with index:
        numbers = index.numbers().tolist()
        rows = {m: index.rows(m, numbers) for m in index.modalities}
        damage = index.check()
        return json.dumps(
            [
                numbers,
                [repr(item) for item in index.items(numbers)],
                {m: [r.values.tolist(), r.sample.tolist()] for m, r in rows.items()},
                [index.find_text(text, 99)[1].tolist() for text in ("dog", "猫", "猫が好")],
                [repr(f) for f in index.facets()],
                dict(index.about),
                index.sources(),
                damage,
            ]
        )


def count_dead(folder):
    """Rows of deleted samples in the segments: all that a compaction changes."""
    with LocalIndex.open(folder) as index:
        return sum(e.dead for e in index._ask(lambda _, state: state.segments))


def run_killed(folder, operation, call, n):
    """Run an operation that is killed at call n. Return False where it ends before that."""
    child = os.fork()
    if not child:
        os.kill(os.getpid(), signal.SIGSTOP)
        try:
            OPERATIONS[operation](folder)
            os._exit(0)
        except BaseException:
            os._exit(9)
    os.waitpid(child, os.WUNTRACED)
    command = ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={call}"]
    command += ["-e", f"inject={call}:signal=SIGKILL:when={n}", "-p", str(child)]
    tracer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while "TracerPid:\t0\n" in Path(f"/proc/{child}/status").read_text():
        if tracer.poll() is not None:
            os.kill(child, signal.SIGKILL)
            raise RuntimeError("strace cannot attach to a child")
        time.sleep(0.002)
    os.kill(child, signal.SIGCONT)
    status = os.waitpid(child, 0)[1]
    tracer.wait()
    if os.WIFEXITED(status):
        if os.WEXITSTATUS(status):
            raise RuntimeError(f"the operation failed on its own at {call} {n}")
        return False
    return True


def list_files(folder):
    """Names of the files in a folder, with sizes of the segments."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def sweep(operation, step):
    """Kill at every call, or at every ``step``-th one. Return (kills by call, lines of what was wrong)."""
    changes.ROWS = 16
    work = Path(tempfile.mkdtemp())
    try:
        prepare(work / "start", operation)
        before = read(work / "start")
        if operation != "create":
            shutil.copytree(work / "start", work / "end")
        OPERATIONS[operation](work / "end")
        after, files = read(work / "end"), list_files(work / "end")
        kills, wrong = {}, []
        for call in CALLS:
            n = 1
            while True:
                folder = work / "try"
                shutil.rmtree(folder, ignore_errors=True)
                if operation != "create":
                    shutil.copytree(work / "start", folder)
                if not run_killed(folder, operation, call, n):
                    break
                kills[call] = kills.get(call, 0) + 1
                found = read(folder)
                if found not in (before, after):
                    wrong.append(f"{operation} killed at {call} {n}: between: {found}"[:300])
                elif operation != "create" or found is None:
                    if found != after or operation == "compact":
                        OPERATIONS[operation](folder)
                    else:
                        compact(folder) if operation == "compact" else delete(folder)  # the next writer sweeps
                    if (found != after or operation == "compact") and (read(folder), list_files(folder)) != (
                        after,
                        files,
                    ):
                        wrong.append(f"{operation} killed at {call} {n}: {list_files(folder)} after the next one")
                    if operation == "compact" and count_dead(folder):
                        wrong.append(f"{operation} killed at {call} {n}: dead rows stay")
                n += step
        return kills, wrong
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    kills, wrong = sweep(sys.argv[1], int(sys.argv[2]))
    print(json.dumps([kills, wrong]))
