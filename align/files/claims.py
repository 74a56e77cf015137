"""Claims of pieces of work, by processes of any number on machines that share a file system and nothing else.

A claim is a file that only one process can create. Its owner adds one to a counter in it every few seconds. Another
process takes a claim over when it is abandoned. This has two signs: the owner has died on this machine (its lock of the
file ends with the process), or nobody has moved the counter for ``LEASE`` seconds by the watcher's own clock. No two
clocks are compared. A process that was only suspended can lose its claim, so the work must be safe to do twice.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, final
from uuid import uuid4

BEAT = 5.0
"""Seconds between two signs of life."""
LEASE = 60.0
"""Seconds without a sign of life after which a claim is abandoned."""


class Claim(NamedTuple):
    """A claim that is there. here: a process of this machine holds its lock. beats: signs of life so far."""

    here: bool
    beats: int


_files: set[int] = set()  # of the claims that this process has


def _forget() -> None:
    """Close the claims of the parent in a forked child, as a data worker: a lock ends with the process that took it."""
    while _files:
        with suppress(OSError):
            os.close(_files.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@final
class Claims:
    """Claims of this process in a folder, and its watch on those of others.

    Args:
        folder: made with the first claim.
        beat, lease: seconds, see ``BEAT`` and ``LEASE``.
    """

    def __init__(self, folder: Path, *, beat: float = BEAT, lease: float = LEASE):
        self.folder, self.beat, self.lease = folder, beat, lease
        self._seen: dict[str, tuple[bytes, float]] = {}  # name -> its content, and the time since which it stands
        self._ours: dict[str, int] = {}  # name -> its file

    @contextmanager
    def hold(self, name: str) -> Iterator[bool]:
        """Yield True while this process has the claim ``name``, False where another one has it."""
        path = self.folder / f"{name}.claim"
        self.folder.mkdir(parents=True, exist_ok=True)
        file = _create(path)
        if file is None and self._is_abandoned(path):
            file = self._take_over(path)
        if file is None:
            yield False
            return
        _files.add(file)
        self._ours[name] = file
        ended = threading.Event()
        beats = threading.Thread(target=_beat, args=(file, self.beat, ended), daemon=True)
        beats.start()
        try:
            yield True
        finally:
            ended.set()
            beats.join()
            if self.has(name):
                with suppress(OSError):
                    path.unlink()
            del self._ours[name]
            if file in _files:  # not in a forked child
                _files.discard(file)
                os.close(file)

    def has(self, name: str) -> bool:
        """Return True while this process has the claim. Another one may have taken it over."""
        try:
            return os.path.samestat(os.fstat(self._ours[name]), (self.folder / f"{name}.claim").stat())
        except (OSError, KeyError):
            return False

    def read(self, name: str) -> Claim | None:
        """Return the claim of another process, None where it is not there."""
        path = self.folder / f"{name}.claim"
        try:
            content = path.read_bytes()
            here = _machine(path) == content[33:-14] and _is_locked(path) is True
            return Claim(here, int(content[-13:]))
        except (OSError, ValueError):
            return None

    @contextmanager
    def wait(self, name: str, poll: float = 1.0) -> Iterator[None]:
        """Wait for the claim ``name`` and keep it for the block. poll: seconds between two tries."""
        while True:
            with self.hold(name) as ours:
                if ours:
                    yield
                    return
            time.sleep(poll)

    def _is_abandoned(self, path: Path) -> bool:
        """Return True where the owner of a claim has died, or has not moved the counter for the whole lease."""
        try:
            content = path.read_bytes()
        except OSError:  # just released
            return False
        now = time.monotonic()
        known, since = self._seen.get(path.name, (b"", now))
        if known != content:
            since = now
        self._seen[path.name] = (content, since)
        return now - since > self.lease or (_machine(path) == content[33:-14] and _is_locked(path) is False)

    def _take_over(self, path: Path) -> int | None:
        """Take an abandoned claim over and return its file. None: another process was faster."""
        content, _ = self._seen.pop(path.name)
        grave = path.with_name(f".{path.name}.{uuid4().hex[:12]}.gone")
        try:
            path.rename(grave)
        except OSError:
            return None
        if _owner(grave.read_bytes()) == _owner(content):
            grave.unlink()
            return _create(path)
        with suppress(OSError):  # a faster process's new claim: it goes back
            os.link(grave, path)
        grave.unlink()
        return None


def _create(path: Path) -> int | None:
    """Return the descriptor of a new claim, locked by this process, None where the claim exists."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
    except (FileExistsError, FileNotFoundError):  # another process has it, or is done and removes the folder
        return None
    _lock(file)
    os.pwrite(file, b"%s %s %012d\n" % (uuid4().hex.encode(), _machine(path), 0), 0)
    os.fsync(file)
    return file


def _beat(file: int, seconds: float, ended: threading.Event) -> None:
    n, content = 0, os.pread(file, 200, 0)
    while not ended.wait(seconds):
        n += 1
        with suppress(OSError):
            os.pwrite(file, b"%s%012d\n" % (content[:-13], n), 0)
            os.fsync(file)  # other machines see it when it has reached the server


def _owner(content: bytes) -> bytes:
    return content[:32]


def _machine(path: Path) -> bytes:
    """Return a word for this machine, its boot and its mount of a folder: locks are seen only within all three."""
    return b"%s:%x" % (_boot(), path.parent.stat().st_dev)


def _boot() -> bytes:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    except OSError:  # another system: no two of its processes are known to share a machine
        return uuid4().hex.encode()


def _lock(file: int) -> None:
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)


def _is_locked(path: Path) -> bool | None:
    """Return True where a process of this machine holds the claim's lock. None: files cannot be locked here."""
    try:
        import fcntl

        file = os.open(path, os.O_RDWR)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    else:
        return False
    finally:
        os.close(file)
