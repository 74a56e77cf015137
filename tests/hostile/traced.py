"""System calls of a server, as strace writes them: files that it opens, makes and removes, and addresses it asks."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import align

CALLS = "open,openat,openat2,creat,unlink,unlinkat,rename,renameat,renameat2,mkdir,mkdirat,truncate,link,connect,execve"
LINE = re.compile(r"^\d+ +(?:<\.\.\. )?(\w+)\((.*)$")
SYSTEM = (
    "/proc/",
    "/sys/",
    "/dev/null",
    "/dev/urandom",
    "/dev/fd",
    "/usr/",
    "/lib",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/ssl/openssl.cnf",
)

FORKS = ("/..namedfork/rsrc", "._", ".AppleDouble/")
"""Fixed names that libsndfile looks for beside a sound of no known format. No visitor chooses them."""


class Call(NamedTuple):
    """A system call. about: its arguments and result as strace writes them."""

    name: str
    about: str

    @property
    def paths(self) -> list[str]:
        """The paths among the arguments."""
        return re.findall(r'"((?:[^"\\]|\\.)*)"', self.about)


def strace(file: Path) -> list[str]:
    """Return a command that traces the command behind it into a file."""
    return ["strace", "-f", "-qq", "--seccomp-bpf", "-s", "4096", "-e", f"trace={CALLS}", "-o", str(file)]


def read_calls(text: str) -> list[Call]:
    """Return the calls of a trace. Calls that were interrupted appear by their beginning."""
    found = (LINE.match(line) for line in text.splitlines())
    return [Call(one[1], one[2]) for one in found if one is not None and "resumed>" not in one[0]]


def find_wrong(calls: Iterable[Call], world: Path, temporary: Path) -> list[Call]:
    """Return calls that no request may cause.

    Modules and libraries may be read, and the files of the world. Nothing is written except to /dev/null. The server
    asks the process that forks its decoders, by a socket in the temporary folder, and nobody else.
    """
    homes = (
        sys.prefix,
        sys.base_prefix,
        sysconfig.get_paths()["stdlib"],
        str(Path(align.__file__).parent),
        str(Path(__file__).parent.parent),
        str(world),
    )
    wrong = []
    for call in calls:
        if call.name == "connect":
            fits = "AF_UNIX" in call.about and (str(temporary) in call.about or "sun_path=@" in call.about)
        elif not call.name.startswith("open"):
            fits = False
        else:
            reads = not re.search("O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", call.about)
            path = (call.paths or [""])[0]
            fits = (
                path == "/dev/null"
                or (reads and path in FORKS)
                or (reads and os.path.normpath(path).startswith((*SYSTEM, *homes)))  # Pillow's libraries are at PIL/../
            )
        wrong += [] if fits else [call]
    return wrong
