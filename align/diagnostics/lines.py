"""Files of a run with one JSON object a line, which a kill may leave with a torn last line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from align.files import atomic_write, json_text


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file, [] where there is none. A torn last line is left out.

    Raises ValueError, with the file and the line, for a line before the last that is no JSON object.
    """
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    out = []
    for number, line in enumerate(lines, 1):
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if isinstance(found, dict):
            out.append(found)
        elif number < len(lines):
            raise ValueError(f"{path}, line {number}, is no JSON object: {line[:60]!r}")
    return out


def append_line(path: Path, content: Mapping[str, Any]) -> None:
    """Add an object to the file, as one line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json_text(dict(content)) + "\n")


def keep_until(path: Path, step: int) -> list[dict[str, Any]]:
    """Drop the objects past a step, and a torn line, and return those that stay.

    A run that goes on from a checkpoint measures the steps after it anew. At step 0 the file goes.
    """
    if not path.is_file():
        return []
    if not step:
        path.unlink()
        return []
    kept = [line for line in read_lines(path) if line.get("step", 0) <= step]
    text = "".join(json_text(line) + "\n" for line in kept)
    if text.encode() != path.read_bytes():
        with atomic_write(path) as file:
            file.write(text.encode())
    return kept
