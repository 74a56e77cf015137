"""Sources of bytes: a member's bytes or the file at a path, and the one word for content that is bad."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO

from align.values import BadSample


def open_source(source: bytes | bytearray | memoryview | str | Path) -> BinaryIO:
    """A binary file over a member's bytes, or the file at a path; FileNotFoundError names the path."""
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source)
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a file")
    return path.open("rb")


def bad(reason: str, source: Any, detail: str) -> BadSample:
    """A BadSample that says what came and, where it is known, from which file."""
    return BadSample(reason, f"{source}: {detail}" if isinstance(source, str | Path) else detail)
