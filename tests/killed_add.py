"""Kill `align index add` at many moments, and look at what is left: ``python killed_add.py FOLDER MOMENTS``.

FOLDER holds a model, and an index of two of its three shards. Each try is a forked child that runs the command and
kills itself with SIGKILL before or after one of the calls that write: of SQLite, of files and of folders. MOMENTS of
them are tried, evenly spread, 0 is all. Prints a line of JSON: the number of such moments, those at which it was killed
with the state that they left ("before" or "after" the addition), and a line for each thing that is wrong.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import torch

from align.commands import main
from align.search.local import LocalIndex

TRUST = ["--allow", "tiny_space"]
SEARCH = os.path.join("align", "search")  # the folder whose calls count
WRITES = (
    *("execute", "executemany", "executescript", "commit", "__exit__", "close"),
    *("write", "fsync", "fdatasync", "rename", "replace", "link", "unlink", "rmdir", "mkdir", "open", "flock", "lockf"),
)


def run(*args: str | Path) -> tuple[int, str]:
    """Run a command, and return its exit code and all that it prints."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        code = main([str(arg) for arg in args])
    return code, told.getvalue()


def add(index: Path) -> tuple[int, str]:
    """Add the third shard to an index."""
    return run("index", "add", index, index.parent / "s" / "test-000002.tar", "--batch", "2", *TRUST)


def read(index: Path) -> Any:
    """Return the items and rows of an index by key. Raises ValueError for a damaged one."""
    with LocalIndex.open(index) as opened:
        if damage := opened.check():
            raise ValueError(str(damage))
        numbers = opened.numbers().tolist()
        items = {n: item.key for n, item in zip(numbers, opened.items(numbers), strict=True)}
        rows = {m: opened.rows(m, numbers) for m in opened.modalities}
        return {
            m: sorted((items[s], v) for s, v in zip(r.sample.tolist(), r.values.tolist(), strict=True))
            for m, r in rows.items()
        }


def kill_at(moment: int, counted: Any = None) -> None:
    """Kill this process at a moment, or count the moments."""
    seen = 0

    def look(frame: Any, event: str, called: Any) -> None:
        nonlocal seen
        if event in ("c_call", "c_return") and called.__name__ in WRITES and SEARCH in frame.f_code.co_filename:
            seen += 1
            if counted is not None:
                counted.append(f"{event} {called.__name__} in {frame.f_code.co_name}")
            elif seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(look)
    sys.setprofile(look)


def run_forked(index: Path, moment: int) -> int:
    """Run the command in a child, and return its exit code."""
    child = os.fork()
    if not child:
        try:
            kill_at(moment)
            code = add(index)[0]
            sys.setprofile(None)
            os._exit(code)
        except BaseException:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def sweep(folder: Path, tries: int) -> tuple[int, dict[str, str], list[str]]:
    """Kill the command at so many moments, each from the same start."""
    torch.set_num_threads(1)
    base, index, wrong = folder / "base", folder / "index", []

    def begin() -> None:
        shutil.rmtree(index, ignore_errors=True)
        for left in folder.glob(".index*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        shutil.copytree(base, index)

    begin()
    before = read(index)
    moments: list[str] = []
    kill_at(0, moments)
    code, told = add(index)
    sys.setprofile(None)
    threading.setprofile(None)
    after, files = read(index), sorted(path.name for path in folder.iterdir())
    if code or before == after:
        wrong.append(f"the addition itself: {told}")
    tried: dict[str, str] = {}
    chosen = range(1, len(moments) + 1, max(1, len(moments) // tries) if tries else 1)
    for moment in chosen:
        begin()
        where = f"{moment}, {moments[moment - 1]}"
        code = run_forked(index, moment)
        if code == 0:
            continue  # it made fewer calls than the first one
        if code != -signal.SIGKILL:
            wrong.append(f"{where}: not killed, {code}")
            continue
        try:
            found = read(index)
        except Exception as error:
            wrong.append(f"{where}: {error!r}")
            continue
        tried[where] = "before" if found == before else "after" if found == after else "between"
        if tried[where] == "between":
            wrong.append(f"{where}: neither before nor after")
        for command in (run("index", "check", index), add(index), run("index", "check", index)):
            if command[0]:
                wrong.append(f"{where}: {command}")
        if read(index) != after:
            wrong.append(f"{where}: not finished by the next one")
        if (left := sorted(path.name for path in folder.iterdir())) != files:
            wrong.append(f"{where}: left behind: {set(left) - set(files)}")
    return len(moments), tried, wrong


if __name__ == "__main__":
    print(json.dumps(sweep(Path(sys.argv[1]), int(sys.argv[2]))))
