"""Sources of bytes: a member's bytes or the file at a path, and the error for content that is bad."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO

from align.values import BadSample


def open_source(source: bytes | bytearray | memoryview | str | Path) -> BinaryIO:
    """Open a member's bytes, or the file at a path, as a binary file. Raises FileNotFoundError, OSError."""
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source)
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a file")
    if not path.is_file():  # the opening of a pipe would wait for a writer
        raise OSError(f"{path} is a pipe or a device, not a file")
    return path.open("rb")


def bad(reason: str, source: Any, detail: str) -> BadSample:
    """Return a BadSample with its detail and, where it is known, its file."""
    return BadSample(reason, f"{source}: {detail}" if isinstance(source, str | Path) else detail)
