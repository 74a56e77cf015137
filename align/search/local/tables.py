"""The SQLite file of an index: its tables, its connections, and its errors in one line.

Writing goes through SQLite's write-ahead log, so readers go on beside the one writer, and a killed writer leaves the
state before its change. The log is folded into the file after each change. The log needs memory that processes share:
a folder on a network disk is read by many machines while none writes to it.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "index.sqlite"
WAIT = 5.0  # seconds that a second writer waits for the first
CACHE = 64  # MiB of pages that a writer holds in memory

# leaves: the values that filters compare. kind: 0 text, 1 number, 2 flag. A list's entries have listed = 1.
# A sample's words stand in `words` and `grams` under its number; these tables hold no copy of the text.
TABLES = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE places (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE modalities (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE items (number INTEGER PRIMARY KEY AUTOINCREMENT, place INTEGER NOT NULL, key TEXT NOT NULL,
    modalities INTEGER NOT NULL DEFAULT 0, captions TEXT NOT NULL, body TEXT NOT NULL, text TEXT, sum BLOB NOT NULL,
    UNIQUE (key, place));
CREATE TABLE keys (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE leaves (key INTEGER NOT NULL, kind INTEGER NOT NULL, value NOT NULL, listed INTEGER NOT NULL,
    number INTEGER NOT NULL, PRIMARY KEY (key, kind, value, listed, number)) WITHOUT ROWID;
CREATE TABLE segments (id INTEGER PRIMARY KEY AUTOINCREMENT, modality INTEGER NOT NULL, rows INTEGER NOT NULL,
    dead INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL);
CREATE TABLE dead (number INTEGER PRIMARY KEY);
CREATE TABLE sources (place TEXT PRIMARY KEY, mark TEXT NOT NULL) WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5(text, content='', tokenize="unicode61 remove_diacritics 2");
CREATE VIRTUAL TABLE grams USING fts5(text, content='', tokenize="trigram");
"""

BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
LOCKLESS = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL)
"""Errors of a folder where SQLite cannot write the lock beside its log: read-only, or a full disk."""
BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Frozen(sqlite3.Connection):
    """A connection to a file that SQLite takes as unchanging, as it must where it can write no lock."""


def connect_writer(folder: Path) -> sqlite3.Connection:
    """Return a connection that writes. Raises OSError where the folder cannot be written."""
    with one_line(folder):
        connection = _connect(folder, "rwc")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = {-1024 * CACHE}")
        return connection


def connect_reader(folder: Path) -> sqlite3.Connection:
    """Return a connection that reads, also from a folder that cannot be written.

    Raises OSError where a killed writer left a log there that only someone who may write can fold into the file.
    """
    if (folder / NAME).is_file() and not os.access(folder / NAME, os.R_OK):
        raise PermissionError(errno.EACCES, "no right to read this index", str(folder / NAME))
    may_write = os.access(folder, os.W_OK) and os.access(folder / NAME, os.W_OK)
    with one_line(folder):  # the last of those who may write folds the log that a killed writer left
        connection = _connect(folder, "rw" if may_write else "ro")
        try:
            connection.execute("PRAGMA query_only = 1")
            connection.execute("SELECT name FROM sqlite_master LIMIT 1").fetchall()
        except sqlite3.OperationalError as error:
            connection.close()
            if error.sqlite_errorcode & 0xFF not in LOCKLESS:
                raise
            log = folder / f"{NAME}-wal"
            if log.is_file() and log.stat().st_size:
                raise OSError(
                    errno.EROFS, "a killed writer left changes that need one opening with the right to write", str(log)
                ) from None
            connection = _connect(folder, "ro&immutable=1", Frozen)
        return connection


@contextmanager
def one_line(folder: Path) -> Iterator[None]:
    """Turn SQLite's errors into one line that names the folder: OSError, or ValueError where the file is damaged."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in BUSY:
            raise OSError(errno.EAGAIN, "another process is writing to this index; try later", str(folder)) from None
        if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _cannot_write(error)):
            raise OSError(errno.ENOSPC, "no room to write; the index is as it was", str(folder)) from None
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            raise OSError(errno.EACCES, "no right to write to this index", str(folder)) from None
        if "no such module" in str(error) or "no such tokenizer" in str(error):
            raise OSError(errno.ENOSYS, f"this Python's SQLite lacks full text search: {error}", str(folder)) from None
        if code in BROKEN or "no such table" in str(error):
            raise ValueError(f"{folder / NAME} is damaged ({error}); make the index anew") from None
        if "Could not decode to UTF-8" in str(error):  # Python's own error, with all of the text
            raise ValueError(f"{folder / NAME} is damaged (a text is no UTF-8); make the index anew") from None
        if code == sqlite3.SQLITE_IOERR:
            raise OSError(errno.EIO, f"{error}", str(folder / NAME)) from None
        raise


def _connect(folder: Path, mode: str, factory: type[sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
    path = "".join(f"%{byte:02x}" if chr(byte) in "%?#" else chr(byte) for byte in os.fsencode(folder.resolve() / NAME))
    uri = f"file:{os.fsdecode(path.encode('latin-1'))}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=WAIT, isolation_level=None, check_same_thread=False, factory=factory)


def _cannot_write(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorname", "") in ("SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE")
