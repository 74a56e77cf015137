"""The state of an index at one generation, as a reader holds it, and the readers' connections."""

from __future__ import annotations

import json
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, final

import torch
from torch import Tensor

from align.search.local.segments import Entry, Mapped, list_segments, map_segment
from align.search.local.tables import NAME, Frozen, connect_reader, one_line

T = TypeVar("T")
KEPT = 32  # results that a state remembers


@final
@dataclass
class State:
    """An index at one generation.

    Args:
        size: one more than the largest sample number. dead: numbers of deleted samples with rows, ascending.
        kept: results at this generation, by a name.
    """

    generation: int
    about: dict[str, Any]
    bits: dict[str, int]
    segments: list[Entry]
    dead: Tensor
    size: int
    kept: dict[str, Any] = field(default_factory=dict)

    @property
    def modalities(self) -> dict[str, int]:
        """Modality -> living rows."""
        rows: dict[str, int] = {}
        for entry in self.segments:
            rows[entry.modality] = rows.get(entry.modality, 0) + entry.rows - entry.dead
        return {m: n for m, n in sorted(rows.items()) if n}

    def alive(self) -> Tensor | None:
        """Return for each sample number whether it may be found, (size,), or None where nothing was deleted."""
        if not len(self.dead):
            return None

        def run() -> Tensor:
            table = torch.ones(self.size, dtype=torch.bool)
            table[self.dead] = False
            return table

        return self.keep("alive", run)

    def keep(self, name: str, run: Callable[[], T]) -> T:
        """Return the result of `run` at this generation, from memory where it was asked for lately."""
        if name in self.kept:
            return self.kept[name]
        value = run()
        for old in list(self.kept)[:-KEPT]:
            self.kept.pop(old, None)
        self.kept[name] = value
        return value


@final
class Reader:
    """Connections for any number of threads, and the newest state."""

    def __init__(
        self,
        folder: Path,
        connect: Callable[[Path], sqlite3.Connection] = connect_reader,
        mapper: Callable[[Path, Entry, int], Mapped] = map_segment,
    ):
        self.folder = folder
        self._connect = connect
        self.mapper = mapper
        self.closed = False
        self._idle: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._lock = threading.Lock()
        self._state: State | None = None
        self._mapped: dict[int, Mapped] = {}
        self._stamp: Any = None
        self._held: sqlite3.Connection | None = None

    @contextmanager
    def read(self) -> Iterator[tuple[sqlite3.Connection, State]]:
        """Yield a connection and the state, both of one generation, which stays for the block."""
        connection = self._take()
        try:
            with one_line(self.folder):
                connection.execute("BEGIN")
                try:
                    yield connection, self._refresh(connection)
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
        except BaseException:
            connection.close()
            raise
        if self.closed:
            connection.close()
        else:
            self._idle.put(connection)

    def map(self, entry: Entry, state: State) -> Mapped:
        """Return the rows of a segment. Raises FileNotFoundError where it is gone, as after a compaction."""
        with self._lock:
            if entry.id not in self._mapped:
                self._mapped[entry.id] = self.mapper(self.folder, entry, state.about["dim"])
            return self._mapped[entry.id]

    def hold(self, connection: sqlite3.Connection) -> None:
        """Keep a connection open, and close it at the end."""
        self._held = connection

    def close(self) -> None:
        """Close the connections. Blocks that are reading end first."""
        self.closed = True
        with self._lock:
            self._mapped.clear()
        if self._held is not None:
            self._held.close()
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return

    def _take(self) -> sqlite3.Connection:
        if self.closed:
            raise ValueError(f"the index {self.folder} is closed")
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            return self._open()
        if isinstance(connection, Frozen) and _stamp(self.folder) != self._stamp:
            connection.close()
            return self._open()
        return connection

    def _open(self) -> sqlite3.Connection:
        self._stamp = _stamp(self.folder)
        return self._connect(self.folder)

    def _refresh(self, connection: sqlite3.Connection) -> State:
        generation = _generation(connection)
        with self._lock:
            state = self._state
        if state is None or state.generation != generation:
            state = read_state(connection, generation)
            living = {entry.id for entry in state.segments}
            with self._lock:
                self._state = state
                self._mapped = {number: rows for number, rows in self._mapped.items() if number in living}
        return state


def read_state(connection: sqlite3.Connection, generation: int) -> State:
    """Return the state that a connection sees."""
    about = {name: json.loads(value) for name, value in connection.execute("SELECT name, value FROM about")}
    about.pop("generation", None)
    bits = {name: 1 << place for name, place in connection.execute("SELECT name, id FROM modalities")}
    dead = torch.tensor([number for (number,) in connection.execute("SELECT number FROM dead ORDER BY number")])
    top = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'items'").fetchone()
    return State(generation, about, bits, list_segments(connection), dead.long(), 1 + (top[0] if top else 0))


def _generation(connection: sqlite3.Connection) -> int:
    found = connection.execute("SELECT value FROM about WHERE name = 'generation'").fetchone()
    return int(found[0]) if found else -1


def _stamp(folder: Path) -> tuple[int, ...]:
    try:
        about = (folder / NAME).stat()
    except OSError:
        return ()
    return about.st_ino, about.st_size, about.st_mtime_ns
