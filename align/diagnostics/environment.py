"""The environment of a run: versions, machine, command and git revision, an entry for each start."""

from __future__ import annotations

import os
import platform
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import align
from align.diagnostics.read import ENVIRONMENT, read_environments
from align.files import write_json

COMPARED = ("host", "python", "cpu", "gpus", "threads", "world")
"""Entries whose change is said when a run goes on. So are the versions of the packages in ``NAMED``."""
NAMED = ("torch", "lightning")
SECONDS = 10  # that git may take


def note_start(run: Path, step: int, world: int) -> str:
    """Add an entry to ``RUN/environment.json``, and return a line about changes since the last start, or "".

    step: the step from which the run goes on. world: number of processes.
    """
    before = read_environments(run)
    now = {"step": step, "time": datetime.now(UTC).isoformat(timespec="seconds"), "world": world, **describe()}
    write_json(run / ENVIRONMENT, {"schema": 1, "starts": [*before, now]})
    changes = list_changes(before[-1], now) if before and step else []
    return f"{run} goes on in another environment: {'; '.join(changes)}" if changes else ""


def describe() -> dict[str, Any]:
    """Return the environment of this process: its command, machine, versions, and git revisions."""
    return {
        "command": shlex.join(sys.argv),
        "folder": str(Path.cwd()),
        "host": socket.gethostname(),
        "system": platform.platform(),
        "cpu": _name_cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "align": align.__version__,
        "packages": _list_packages(),
        "git": {
            "folder": read_git(str(Path.cwd())),
            "align": read_git(str(Path(align.__file__).parent)),
        },
    }


def list_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a text for each change that can change the bits of a result: "torch was 2.13.0, is 2.14.1"."""
    pairs = [(name, before.get(name), now.get(name)) for name in COMPARED]
    pairs += [(name, *(one.get("packages", {}).get(name) for one in (before, now))) for name in NAMED]
    revisions = [((one.get("git") or {}).get("align") or {}).get("revision") for one in (before, now)]
    pairs.append(("align's revision", revisions[0], revisions[1]))
    return [f"{name} was {_say(old)}, is {_say(new)}" for name, old, new in pairs if old != new]


def _say(value: Any) -> str:
    return (", ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)


@cache
def read_git(folder: str) -> dict[str, Any] | None:
    """Return the revision of a folder's repository, and True under "dirty" where tracked files differ from it.

    None: there is no repository with a commit, or no git. The state is that of the first call in this process.
    """
    revision = _ask_git(folder, "rev-parse", "HEAD")
    if not revision:
        return None
    changed = _ask_git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"revision": revision, "dirty": None if changed is None else bool(changed)}


def _ask_git(folder: str, *words: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", folder, *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@cache
def _list_packages() -> dict[str, str]:
    """Return distribution -> version, of all that are installed."""
    found = {}
    for one in metadata.distributions():
        name = one.metadata["Name"]
        if name:
            found.setdefault(name, one.version)
    return dict(sorted(found.items(), key=lambda pair: pair[0].lower()))


@cache
def _name_cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
