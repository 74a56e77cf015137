"""Limits that the system holds a decoder to: memory, processor time and files.

They stand after the libraries are loaded, so they bound what a file costs and not what torch takes. RLIMIT_NPROC is
left alone: it counts the threads of all processes of the user, so a limit that stops a decoder would also stop codecs
and other programs.
"""

from __future__ import annotations

import math
import os
import resource
import sys
from pathlib import Path

SPARE_FILES = 16  # that a decoder may open beside those that it has: an indexed mesh and the files beside it
SPARE_SECONDS = 1.0  # of processor time beyond the deadline, so that the server's clock ends a slow file first
STATUS = Path("/proc/self/status")


def confine(memory: int) -> None:
    """Bound this process for good: it gets ``memory`` bytes beyond those that it has, and writes to no file.

    RLIMIT_DATA counts heap and private memory, and RLIMIT_AS counts mapped files and shared memory too, with room for
    the address space that allocators reserve and never use. Both stand on Linux alone, which tells what is used now.
    """
    sys.dont_write_bytecode = True
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, 0)  # a write fails with EFBIG, as Python ignores the signal; pipes are no files
    if (highest := _highest_file()) is not None:
        _lower(resource.RLIMIT_NOFILE, highest + 1 + SPARE_FILES)
    used = _memory_used()
    if used is not None:
        data, space = used
        _lower(resource.RLIMIT_DATA, data + memory)
        _lower(resource.RLIMIT_AS, space + 2 * memory)


def allow_seconds(seconds: float) -> None:
    """Give this process so much processor time from now on, in all its threads. Beyond it SIGXCPU ends it."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    end = math.ceil(spent.ru_utime + spent.ru_stime + seconds + SPARE_SECONDS)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (end if most == resource.RLIM_INFINITY else min(end, most), most))


def _lower(kind: int, limit: int) -> None:
    """Set both the soft and the hard limit, and keep a lower one that stands."""
    _, most = resource.getrlimit(kind)
    limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
    resource.setrlimit(kind, (limit, limit))


def _highest_file() -> int | None:
    """Return the highest number of an open file, or None where the system does not tell."""
    try:
        return max(int(name) for name in os.listdir("/dev/fd"))
    except (OSError, ValueError):
        return None


def _memory_used() -> tuple[int, int] | None:
    """Return the bytes that RLIMIT_DATA and RLIMIT_AS count of this process, or None where it is unknown."""
    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = {
        line.partition(":")[0]: 1024 * int(line.split()[1]) for line in lines if line.startswith(("VmData", "VmSize"))
    }
    return found["VmData"], found["VmSize"]
