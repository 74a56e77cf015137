"""Readers of an index: connections for any number of threads, and the newest state."""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar, final

from align.search.local.segments import Entry, Mapped, map_segment
from align.search.local.state import State, read_generation, read_state
from align.search.local.tables import NAME, Frozen, connect_reader, one_line

T = TypeVar("T")
TRIES = 5  # readings of a state whose segments a compaction removes meanwhile


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
        self._inode: tuple[int, ...] | None = None
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
        except (sqlite3.Error, OSError):
            connection.close()
            raise
        except BaseException:  # of the question, such as an unknown key
            self._give_back(connection)
            raise
        self._give_back(connection)

    def ask(self, run: Callable[[sqlite3.Connection, State], T]) -> T:
        """Return what a question returns of the newest state. It is asked again where a compaction removes segments.

        Raises ValueError for a segment that is missing, OSError where each state is gone before it is read.
        """
        generation, again = None, False
        for _ in range(TRIES):
            try:
                with self.read() as (connection, state):
                    again, generation = state.generation == generation, state.generation
                    return run(connection, state)
            except FileNotFoundError as error:
                if again:
                    raise ValueError(f"{error.filename} is missing; make the index anew") from None
        raise OSError(f"{self.folder} changes too fast to be read; try again")

    def prepare(self, readers: int) -> None:
        """Open the connections of so many threads, so that none is opened after another index took the folder."""
        with ExitStack() as stack:
            for _ in range(readers):
                stack.enter_context(self.read())

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

    def _give_back(self, connection: sqlite3.Connection) -> None:
        if self.closed:
            connection.close()
        else:
            self._idle.put(connection)

    def _open(self) -> sqlite3.Connection:
        """Return another connection. Raises FileNotFoundError where another index has taken the folder.

        Its rows are not those that are mapped here, and two indexes may have one generation.
        """
        stamp = _stamp(self.folder)
        connection = self._connect(self.folder)
        if self._inode != stamp[:1] and self._inode is not None:
            connection.close()
            raise FileNotFoundError(f"another index has taken the place of {self.folder}; open it anew")
        self._inode, self._stamp = stamp[:1], stamp
        return connection

    def _refresh(self, connection: sqlite3.Connection) -> State:
        generation = read_generation(connection)
        with self._lock:
            state = self._state
        if state is None or state.generation != generation:
            state = read_state(connection, generation)
            living = {entry.id for entry in state.segments}
            with self._lock:
                self._state = state
                self._mapped = {number: rows for number, rows in self._mapped.items() if number in living}
        return state


def _stamp(folder: Path) -> tuple[int, ...]:
    try:
        about = (folder / NAME).stat()
    except OSError:
        return ()
    return about.st_ino, about.st_size, about.st_mtime_ns
