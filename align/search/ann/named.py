"""Backends by the names that users give them."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from align.search.ann.kinds import KINDS
from align.search.ann.local import Draw, LocalBackend
from align.search.ann.notes import read_id
from align.search.remote import connect, is_address

EXACT = "exact"


def find_backend(folder: Path, name: str, effort: float = 1.0, draw: Draw | None = None) -> Any:
    """Return the backend of an index by its name.

    It is a ``Backend`` with ``rerank``, the samples to score exactly, and may have ``say_effort`` and ``check``.
    Raises ValueError for a name that is none, with the nearest, and for an address that is none of a server.
    """
    if is_address(name):
        return connect(name, index=read_id(folder), effort=effort)
    if name in KINDS:
        return LocalBackend(folder, name, effort, draw)
    close = get_close_matches(name, [*KINDS, EXACT], 1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise ValueError(f"no backend {name!r}; {hint}there are {', '.join(KINDS)}, a server's URL, and {EXACT} for none")


def is_local(name: str) -> bool:
    """Return True for a backend whose files lie in the index folder."""
    return name in KINDS
