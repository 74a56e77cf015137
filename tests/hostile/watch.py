"""Witnesses: files that nobody may open, an address that nobody may ask, listings of folders, and memory."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys
from pathlib import Path
from typing import NamedTuple

IN_ACCESS, IN_OPEN, IN_MODIFY, IN_CREATE, IN_DELETE, IN_MOVE = 0x1, 0x20, 0x2, 0x100, 0x200, 0xC0
EVENT = struct.Struct("iIII")
SECRET = b"canary-5f1c1a2e"


class Outside:
    """A folder beside the server's with secrets, and a port that requests name.

    canary: a file without suffix. Others are beside it with the suffixes of the files that meshes name. marker: a file
    that a taken-over decoder would make.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        self.canary, self.marker = folder / "canary", folder / "made"
        for suffix in ("", ".mtl", ".png", ".bin", ".npy", ".wav", ".obj"):
            (folder / f"canary{suffix}").write_bytes(b"newmtl a\nKd 1 0 0\nmap_Kd canary.png\n#" + SECRET + bytes(200))
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.listener = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._opened = Opened(folder)

    def opened(self) -> list[str]:
        """Return the names of files that were opened, read, made or removed since the last call."""
        return self._opened.take()

    def visited(self) -> bool:
        """Return True where someone has asked the address."""
        try:
            self._socket.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Stop watching."""
        self._socket.close()
        self._opened.close()


class Opened:
    """Linux's inotify for a folder. On other systems it sees nothing."""

    def __init__(self, folder: Path):
        self._fd = -1
        if sys.platform != "linux":
            return
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK)
        mask = IN_ACCESS | IN_OPEN | IN_MODIFY | IN_CREATE | IN_DELETE | IN_MOVE
        if libc.inotify_add_watch(self._fd, os.fsencode(folder), mask) < 0:
            raise OSError(ctypes.get_errno(), "inotify cannot watch the folder")

    def take(self) -> list[str]:
        """Return the names of all events so far. A folder that is listed has the name "."."""
        found = []
        while self._fd >= 0:
            try:
                data = os.read(self._fd, 1 << 16)
            except BlockingIOError:
                break
            while data:
                *_, length = EVENT.unpack_from(data)
                found.append(os.fsdecode(data[EVENT.size : EVENT.size + length].rstrip(b"\0")) or ".")
                data = data[EVENT.size + length :]
        return found

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Return path below a folder -> (bytes, time of its last change) of all files and folders."""
    stats = {str(path.relative_to(folder)): path.lstat() for path in sorted(folder.rglob("*"))}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}


class Memory(NamedTuple):
    """Bytes in memory of the server and of the processes below it."""

    server: int
    decoders: int


def memory(pid: int) -> Memory:
    """Return the memory of a process and of those below it."""
    return Memory(_status(pid, "VmRSS"), sum(_status(one, "VmRSS") for one in below(pid)))


def peak(pid: int) -> int:
    """Return the most bytes that a process has held."""
    return _status(pid, "VmHWM")


def below(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that they have started."""
    try:
        children = [
            int(one) for task in Path(f"/proc/{pid}/task").iterdir() for one in (task / "children").read_text().split()
        ]
    except OSError:  # it has ended
        return []
    return [one for child in children for one in (child, *below(child))]


def _status(pid: int, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name)), 0)
