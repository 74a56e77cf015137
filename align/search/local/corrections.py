"""Corrections for hubs in the SQLite file of an index: one number a row, with a checksum for each part."""

from __future__ import annotations

import hashlib
import sqlite3

import numpy as np
import torch

from align.search.shift import Shift

PART = 1 << 18  # rows of a part, which is one value of the table
TABLE = """
CREATE TABLE IF NOT EXISTS shifts (name TEXT NOT NULL, part INTEGER NOT NULL, method TEXT NOT NULL,
    sample BLOB NOT NULL, shift BLOB NOT NULL, sum BLOB NOT NULL, PRIMARY KEY (name, part)) WITHOUT ROWID
"""


def write_shift(connection: sqlite3.Connection, name: str, shift: Shift | None) -> None:
    """Put a correction in the place of an earlier one of this name. None: it goes."""
    connection.execute(TABLE)  # an index that an earlier align made has no such table
    connection.execute("DELETE FROM shifts WHERE name = ?", (name,))
    if shift is None:
        return
    for part, (sample, less) in enumerate(zip(shift.sample.split(PART), shift.shift.split(PART), strict=True)):
        numbers, values = sample.numpy().astype("<i8").tobytes(), less.numpy().astype("<f4").tobytes()
        row = (name, part, shift.method, numbers, values, _sum(name, numbers, values))
        connection.execute("INSERT INTO shifts VALUES (?, ?, ?, ?, ?, ?)", row)


def read_shift(connection: sqlite3.Connection, name: str) -> Shift:
    """Return a correction. Raises KeyError where there is none, ValueError where it is damaged."""
    samples, shifts, methods, marks = [], [], [], []
    if _has_table(connection):
        sql = "SELECT method, sample, shift, sum FROM shifts WHERE name = ? ORDER BY part"
        for method, numbers, values, total in connection.execute(sql, (name,)):
            if total != _sum(name, numbers, values) or len(numbers) != 2 * len(values):
                raise ValueError(
                    f"the correction {name} of the index is damaged: its checksum differs; make it anew with: "
                    "align search INDEX --correct SHARDS"
                )
            methods.append(method)
            marks.append(total.hex())
            samples.append(torch.from_numpy(np.frombuffer(numbers, "<i8").astype(np.int64)))
            shifts.append(torch.from_numpy(np.frombuffer(values, "<f4").astype(np.float32)))
    if not samples:
        raise KeyError(f"the index keeps no correction {name}")
    return Shift(torch.cat(samples), torch.cat(shifts), methods[0], " ".join(marks))


def check_shifts(connection: sqlite3.Connection, names: list[str]) -> list[str]:
    """Return a line for each correction that is damaged or gone. names: those that the index says it keeps."""
    found = []
    for name in names:
        try:
            read_shift(connection, name)
        except (ValueError, KeyError) as error:
            found.append(str(error.args[0]))
    return found


def _has_table(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'shifts'").fetchone() is not None


def _sum(name: str, numbers: bytes, values: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\0" + numbers + values).digest()[:8]
