"""The cache of whole shards: those that cannot be read in parts, in a folder that stays below a size.

They are printed by a command (``pipe:``, only where the user allows it) or sent by a server without ranges. The folder
is $ALIGN_CACHE/shards. The shards that were opened longest ago are removed first, and fetched again when needed. So a
set larger than the bound is fetched more than once: raise ``cache``, or copy the set here.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import final

from align.data.places.servers import Remote, Unreachable, fetch_whole
from align.files import atomic_write, cache_dir, cache_name
from align.files.http import Stat
from align.files.lock import hold_lock

PIECE = 1 << 20


@final
@dataclass(frozen=True)
class Pipe:
    """``pipe:COMMAND``: a shard that a shell command prints. The output is used until the cache removes it."""

    command: str

    def __str__(self) -> str:
        return f"pipe:{self.command}"

    @property
    def name(self) -> str:
        """The whole text: a command has no file name."""
        return str(self)

    @property
    def parent(self) -> Pipe:
        """The pipe itself: no manifest stands beside a command."""
        return self


def keep(shard: Pipe | Remote, about: Stat | None, limit: int) -> Path:
    """Return the path of a shard in the cache, where it is fetched or run if it is absent. Raises Unreachable.

    about: the server's statement of it, for one without ranges. limit: bytes of the whole folder.
    """
    name = f"{shard} {shard.url} {about}" if isinstance(shard, Remote) else str(shard)
    path = cache_dir() / "shards" / f"{cache_name(name)}.tar"
    if _touch(path):
        return path
    with hold_lock(path.with_suffix(".lock")):
        if _touch(path):
            return path
        chunks = _run(shard) if isinstance(shard, Pipe) else fetch_whole(shard, about or Stat(0))
        with closing(chunks), atomic_write(path) as file:
            size = 0
            for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    raise Unreachable(f"cannot keep {shard}: it is larger than cache={limit} bytes")
                file.write(chunk)
        _shrink(path, limit)
    return path


def _touch(path: Path) -> bool:
    """Return True where the file is there, and mark it as opened last. The mtime stays: its index depends on it."""
    try:
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
    except OSError:
        return False
    return True


def _shrink(newest: Path, limit: int) -> None:
    """Remove the shards that were opened longest ago until the folder fits. A process that has one open reads on."""
    found = []
    for path in newest.parent.glob("*.tar"):
        with suppress(OSError):
            state = path.stat()
            found.append((state.st_atime_ns, state.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= limit:
            return
        if path != newest:
            path.unlink(missing_ok=True)
            path.with_name(path.name + ".index.json").unlink(missing_ok=True)
            total -= size


def _run(pipe: Pipe) -> Generator[bytes, None, None]:
    with subprocess.Popen(pipe.command, shell=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as running:
        try:
            if running.stdout is not None:
                while chunk := running.stdout.read(PIECE):
                    yield chunk
        except BaseException:
            running.kill()
            raise
    if running.returncode:
        raise Unreachable(f"{pipe} ended with exit code {running.returncode}")
