"""The transaction around a change, and the files that a killed one left."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from align.files import FULL
from align.search.local.change import Change
from align.search.local.segments import FOLDER, list_segments, path_of
from align.search.local.tables import connect_writer, one_line

LOOSE = 0.25


@contextmanager
def write_to(folder: Path) -> Iterator[Change]:
    """Yield a change, and commit it when the block ends, or leave everything as it was when an error leaves it."""
    connection = connect_writer(folder)
    try:
        with one_line(folder):
            connection.execute("BEGIN IMMEDIATE")
        _sweep(folder, connection)
        change = Change(folder, connection)
        try:
            with one_line(folder):
                yield change
                change.finish()
                if connection.total_changes:
                    connection.execute("UPDATE about SET value = value + 1 WHERE name = 'generation'")
                connection.execute("COMMIT")
        except BaseException as error:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            change.discard()
            if isinstance(error, OSError) and error.errno in FULL and error.filename is None:
                raise OSError(errno.ENOSPC, "no room to write; the index is as it was", str(folder)) from None
            raise
        with suppress(OSError, sqlite3.Error):  # the change is made; the next writer sweeps again
            _sweep(folder, connection)
            connection.execute("PRAGMA busy_timeout = 100")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        with suppress(sqlite3.Error):
            connection.close()


def shrink(folder: Path) -> None:
    """Give the space of deleted entries back to the disk where it is a quarter of the SQLite file.

    Where the disk has no room for the copy that this takes, the space stays in the file and is used again.
    """
    with suppress(OSError, sqlite3.Error), closing(connect_writer(folder)) as connection:
        free = connection.execute("PRAGMA freelist_count").fetchone()[0]
        if free > connection.execute("PRAGMA page_count").fetchone()[0] * LOOSE:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _sweep(folder: Path, connection: sqlite3.Connection) -> None:
    """Remove segments that the index does not list: those of a killed change, and those that were compacted."""
    listed = {path_of(folder, entry.id).name for entry in list_segments(connection)}
    with suppress(FileNotFoundError):
        for name in os.listdir(folder / FOLDER):
            if name not in listed:
                (folder / FOLDER / name).unlink(missing_ok=True)
