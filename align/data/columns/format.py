"""The format of a feature cache: the names of its files and the content of its ``cache.json``. It knows no model."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

schema = 1
FILE = "cache.json"
BLOCK = 1024
"""Positions of a block at most."""


class ColumnName(NamedTuple):
    """``CACHE/SET:MODALITY``, as a config names a column."""

    cache: Path
    set: str
    modality: str

    def __str__(self) -> str:
        return f"{self.cache / self.set}:{self.modality}"


def parse_column(text: str) -> ColumnName:
    """Return the parts of ``CACHE/SET:MODALITY``. Raises ValueError for another form."""
    path, colon, modality = text.rpartition(":")
    folder = Path(path)
    if not colon or not modality or folder.name in ("", "..") or folder.parent == folder:
        raise ValueError(f"a column is CACHE/SET:MODALITY, as in caches/photos/minilm:text; got {text!r}")
    return ColumnName(folder.parent, folder.name, modality)
