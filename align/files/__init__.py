"""Files on a disk: atomic writes, checksums, JSON and the cache folder. ``http`` and ``fetch`` read from a network."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from align.files.swapping import swap

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a disk without room."""


@contextmanager
def atomic_write(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Yield a file object, whose content replaces ``path`` when the block ends without an error.

    The content is then complete and on the disk. After an error ``path`` is as it was.
    The temporary file is a neighbour of ``path``: a rename inside one folder is atomic, a move between disks is not.
    Missing parent folders are made. mode: "wb" or "w" (UTF-8).
    """
    if mode not in ("wb", "w"):
        raise ValueError(f"atomic_write writes a file anew: mode 'wb' or 'w', not {mode!r}")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:200]}.{uuid4().hex[:12]}.tmp")
    try:
        with open(temporary, mode.replace("w", "x"), encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(FileNotFoundError):
            temporary.unlink()
        if isinstance(error, OSError):
            _name_file(error, temporary, path)
        raise
    sync_folder(path.parent)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a work folder beside ``path`` that replaces it when the block ends without an error.

    The content is then complete and on the disk. A folder that stood there comes back where the exchange fails (see
    ``align.files.swapping`` for a kill). Where ``path`` is a link, the folder behind it is replaced.
    """
    path = Path(path)
    path = path.resolve() if path.is_symlink() else path
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid4().hex[:12]
    work, old = (path.with_name(f".{path.name[:200]}.{mark}.{end}") for end in ("tmp", "old"))
    try:
        work.mkdir()
        yield work
        for file in work.rglob("*"):
            if file.is_file():
                with file.open("rb") as f:
                    os.fsync(f.fileno())
            elif file.is_dir():
                sync_folder(file)
        sync_folder(work)
        swap(work, path, old)
        sync_folder(path.parent)
    except OSError as error:
        _name_file(error, work, path)
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if path.exists():  # else the old folder is the only one that is left
            shutil.rmtree(old, ignore_errors=True)


def _name_file(error: OSError, temporary: Path, path: Path) -> None:
    """Let an error name the file that was to be written: a full disk's names none, others a temporary one."""
    nameless = error.filename is None and error.strerror is not None and error.errno in FULL
    if nameless or error.filename == str(temporary):
        error.filename = str(path)


@contextmanager
def whole_or_not(path: str | Path) -> Iterator[None]:
    """Let the block append to a file. After an error the file ends where it ended before, or is not there."""
    path = Path(path)
    size = path.stat().st_size if path.exists() else None
    try:
        yield
    except BaseException:
        with suppress(OSError):
            path.unlink() if size is None else os.truncate(path, size)
        raise


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk: a new file's is safe after this alone."""
    with suppress(OSError):  # some file systems cannot sync a folder, but the file itself is safe
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sha256(path: str | Path) -> str:
    """Return the checksum of a file's content: its SHA-256, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: str | Path, obj: Any, *, indent: int | None = 2) -> None:
    """Write ``obj`` as UTF-8 JSON, atomically. indent: spaces, for people, or None for one line."""
    text = json_text(obj, indent)
    with atomic_write(path, "w") as file:
        file.write(text + "\n")


def json_text(obj: Any, indent: int | None = None, default: Callable[[Any], Any] | None = None) -> str:
    """Return ``obj`` as JSON that UTF-8 can write: bytes of a file's name that are no UTF-8 become ``\\udcXX``.

    >>> print(json_text({"é": b"caf\\xe9".decode("utf-8", "surrogateescape")}))
    {"é": "caf\\udce9"}
    """
    text = json.dumps(obj, indent=indent, ensure_ascii=False, default=default)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def read_json(path: str | Path) -> Any:
    """Return the content of a JSON file. Raises FileNotFoundError, or ValueError that names the file and the line."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None


def cache_dir() -> Path:
    """Return $ALIGN_CACHE, else ~/.cache/align. The folder is made by its first writer, not here."""
    return Path(os.environ.get("ALIGN_CACHE") or Path.home() / ".cache" / "align")


def cache_name(text: str) -> str:
    """Return the name of the cache file for ``text``, a path or a URL: 32 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
