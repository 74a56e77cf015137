"""The machine: its GPU, cores, memory, cache folder, and the way to the hub."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from align.commands.process import count_cores

HUB_SECONDS = 6
WALK_SECONDS = 3  # for the size of a cache folder, which may hold a million files
LEAST_SHARED = 1 << 30  # bytes of /dev/shm


def look_at_gpu() -> dict[str, Any]:
    """Return ``devices`` (name, memory in bytes) and ``cuda``, or ``reason``: there is no GPU, or torch cannot use it.

    It runs a product on each device, because a card that the build of torch does not know fails there.
    """
    import torch

    built = (
        f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}" if torch.version.hip else ""
    )
    if not built:
        return {"devices": [], "reason": f"torch {torch.__version__} is built for the CPU alone"}
    try:
        torch.cuda.init()
        devices = []
        for i in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(i)
            one = torch.ones(64, 64, device=f"cuda:{i}")
            if float((one @ one)[0, 0]) != 64:
                return {"devices": [], "cuda": built, "reason": f"{about.name} computes a wrong product"}
            devices.append({"name": about.name, "memory": about.total_memory})
    except (RuntimeError, AssertionError) as error:
        return {"devices": [], "cuda": built, "reason": str(error).splitlines()[0].partition(". ")[0].rstrip(".")}
    return {"devices": devices, "cuda": built, "reason": "" if devices else "no device is visible to this process"}


def look_at_process() -> dict[str, Any]:
    """Return cores, threads of torch, memory, shared memory, and the C library."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    library, version = platform.libc_ver()
    try:
        shared = shutil.disk_usage("/dev/shm").total
    except OSError:
        shared = 0 if sys.platform == "linux" else LEAST_SHARED  # other systems share memory without that folder
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "libc": f"{library} {version}".strip(),
        "cores": count_cores(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "memory": memory,
        "shared_memory": shared,
    }


def look_at_cache() -> dict[str, Any]:
    """Return the cache's folder, its bytes, the free bytes of its disk, and ``error`` where it cannot be written."""
    from align.files import cache_dir

    folder = cache_dir()
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    about: dict[str, Any] = {"folder": str(folder), "error": ""}
    try:
        about["free"] = shutil.disk_usage(there).free
        _try_write(there)
    except OSError as error:
        about["error"] = f"{error.strerror or error}: {error.filename or there}"
    about["bytes"], about["whole"] = _size(folder)
    return about


def _try_write(folder: Path) -> None:
    if not folder.is_dir():
        raise NotADirectoryError(None, "it is a file, not a folder", str(folder))
    from tempfile import NamedTemporaryFile

    with NamedTemporaryFile(dir=folder, prefix=".align-") as file:
        file.write(b"x" * 4096)
        file.flush()


def _size(folder: Path) -> tuple[int, bool]:
    """Return the bytes in a folder, and False where the time was over before all was counted."""
    end, total, stack = time.monotonic() + WALK_SECONDS, 0, [folder]
    while stack:
        if time.monotonic() > end:
            return total, False
        try:
            with os.scandir(stack.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(Path(entry.path))
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total, True


def look_at_hub() -> dict[str, Any]:
    """Return the hub's address and ``state``: "reachable", "offline" (as a variable says) or "unreachable"."""
    from huggingface_hub.constants import is_offline_mode

    from align.files.http import Status, request

    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    if is_offline_mode():
        names = [name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(name)]
        return {"address": address, "state": "offline", "reason": f"{' and '.join(names)} is set"}
    try:
        with request(address, {}, HUB_SECONDS - 1, "HEAD"):
            pass
    except Status:  # it answers, if only with a code
        pass
    except OSError as error:
        return {"address": address, "state": "unreachable", "reason": str(error)}
    return {"address": address, "state": "reachable", "reason": ""}


def look_at_sqlite() -> dict[str, str]:
    """Return the version of SQLite. Raises ValueError where it lacks the full text search that an index needs."""
    import sqlite3

    base = sqlite3.connect(":memory:")
    try:
        base.execute("CREATE VIRTUAL TABLE words USING fts5(text, tokenize='trigram')")
    except sqlite3.Error as error:
        raise ValueError(f"SQLite {sqlite3.sqlite_version} has no full text search: {error}") from None
    finally:
        base.close()
    return {"version": sqlite3.sqlite_version}
