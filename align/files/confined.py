"""Confinement of a load: while a model folder is read, no other file is, and nothing is fetched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_folder: ContextVar[Path | None] = ContextVar("folder", default=None)


@contextmanager
def confine(folder: Path) -> Iterator[None]:
    """Refuse sources outside ``folder`` in this block: its config may come from anyone, and names them freely."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


def is_confined() -> bool:
    """Return True while a load is confined to a folder."""
    return _folder.get() is not None


def check_confined(source: str | Path) -> None:
    """Raise ValueError where a load is confined to a folder, and ``source`` is no file in it."""
    folder = _folder.get()
    if folder is not None and Path(os.path.abspath(source)).parent != Path(os.path.abspath(folder)):
        raise ValueError(
            f"{folder} asks for {source}, but a model folder is read alone: nothing outside of it, and nothing fetched"
        )
