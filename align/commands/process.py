"""The process of a command: its command line, memory and threads, and the bytes that it may print."""

from __future__ import annotations

import os
import shlex
import sys
from io import TextIOWrapper


def command_line() -> str:
    """Return the command line that this process was started with."""
    return shlex.join(["align", *sys.argv[1:]])


def keep_memory() -> None:
    """Tell glibc to keep freed blocks: on a CPU, faulting them in again is half the time of a small tower's step."""
    import ctypes

    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
    mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD


def print_any_name() -> None:
    """Let stdout and stderr print file names that are no UTF-8, with the same bytes, as ``ls`` does."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="surrogateescape")


def leave_a_core() -> None:
    """Give torch all cores but one, which is left to data workers, unless OMP_NUM_THREADS says otherwise.

    The number does not depend on the number of workers, which may not change a bit of the result.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, count_cores() - 1))


def count_cores() -> int:
    """Return the number of cores that this process may use. Only Linux tells: elsewhere it is the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def measure_largest() -> float | None:
    """Return the GiB that the largest process of a command had in memory. None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return (
        unit * max(resource.getrusage(of).ru_maxrss for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 2**30
    )
