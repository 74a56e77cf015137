"""An opened index with the approximate search that its folder has now, and the removal of one that is stale."""

from __future__ import annotations

import os
import shlex
import threading
from pathlib import Path
from typing import Any, final

from align.search.ann.named import find_backend
from align.search.ann.notes import Notes, path_of_notes, read_notes, remove_notes, write_notes
from align.search.approximate import Approximate
from align.search.building.staging import Busy, hold_index
from align.search.local import LocalIndex
from align.search.made import Made
from align.search.remote import is_address


def attach(index: LocalIndex) -> Approximate:
    """Return an index that uses the approximate search of its folder, also one that is made later."""
    return Approximate(index, Following(index.folder).read)


@final
class Following:
    """The approximate search of an index folder, read again when its notes have changed."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._lock = threading.Lock()
        self._mark: Any = None
        self._made: Made | None = None

    def read(self) -> Made | None:
        """Return the approximate search as it stands, None for none. Raises ValueError where its notes are damaged."""
        try:
            stat = os.stat(path_of_notes(self._folder))
        except FileNotFoundError:
            return None
        mark = stat.st_ino, stat.st_mtime_ns, stat.st_size
        with self._lock:
            if mark != self._mark:
                notes = read_notes(self._folder)
                self._made = None if notes is None else describe_made(self._folder, notes)
                self._mark = mark
            return self._made


def describe_made(folder: Path, notes: Notes) -> Made:
    """Return the approximate search that notes tell of."""
    backend = find_backend(folder, notes.backend, notes.effort)
    return Made(backend, backend.rerank, notes.modalities, remedy(folder, notes.backend))


def remedy(folder: Path, name: str) -> str:
    """Return the command that makes an approximate search again."""
    return f"align index backend {shlex.quote(str(folder))} {shlex.quote(name)}"


def drop_stale(folder: Path) -> list[str]:
    """Remove the approximate search of modalities whose rows have changed, and return a line for each.

    Searches among them were exact since the change. Notes that are damaged are removed. While another process changes
    the index nothing is removed: the files may be those that it is about to name.
    """
    try:
        with hold_index(folder):
            return _drop_stale(folder)
    except Busy:
        return [f"another process is changing {folder}, which removes what is stale of its approximate search"]


def _drop_stale(folder: Path) -> list[str]:
    try:
        notes = read_notes(folder)
    except ValueError as error:
        remove_notes(folder)
        return [f"the notes of the approximate search were damaged and are removed: {error}"]
    if notes is None:
        return []
    with LocalIndex.open(folder) as index:
        kept = {m: facts for m, facts in notes.modalities.items() if facts.get("mark") == index.mark(m)}
    lines = [
        f"the {notes.backend} of {m} is stale; make it again: {remedy(folder, notes.backend)}"
        for m in notes.modalities
        if m not in kept
    ]
    if lines:
        if kept:
            measured = {name: value for name, value in notes.measured.items() if name in kept}
            write_notes(folder, Notes(notes.backend, notes.index, notes.effort, kept, measured))
        else:
            remove_notes(folder)
        find_backend(folder, notes.backend, notes.effort).sweep(kept)
    return lines


def remove_backend(folder: Path) -> str:
    """Remove the approximate search of an index, and return its name, "" where there was none.

    Raises ValueError where another process is changing the index, and OSError for a mirror whose server cannot be
    reached. The index has forgotten it by then.
    """
    with hold_index(folder):
        try:
            notes = read_notes(folder)
        except ValueError:
            notes = None
        name = "" if notes is None else notes.backend
        remove_notes(folder)
        if is_address(name):
            drop_mirror(folder, name, f"searches of {folder} are exact now")
        else:
            find_backend(folder, "hnsw").drop()
        return name


def drop_mirror(folder: Path, address: str, done: str) -> None:
    """Remove the mirrors of an index from a server that it asks no more. done: a clause about what it does now.

    Raises OSError, with both, where the server cannot be reached.
    """
    try:
        find_backend(folder, address).drop()
    except (ImportError, OSError) as error:
        raise OSError(f"{done}; its mirror stays on the server ({error})") from None
