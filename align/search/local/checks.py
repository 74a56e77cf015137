"""Verification of a whole index: every checksum, every list against every other."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import torch

from align.search.local.entries import read_items
from align.search.local.state import Reader, State
from align.search.local.tables import NAME

BATCH = 1000


def check_folder(
    reader: Reader, connection: sqlite3.Connection, state: State, progress: Callable[[int, int], Any] | None = None
) -> list[str]:
    """Return a line for each damage: of the SQLite file, an item's checksum, a segment, or a row of no sample.

    progress: called with the bytes that were read, and their sum.
    """
    found: list[str] = []
    folder = reader.folder
    try:
        lines = [line for (line,) in connection.execute("PRAGMA integrity_check(10)")]
        found += [f"{folder / NAME}: {line}" for line in lines if line != "ok"]
        found += _check_items(connection)
    except sqlite3.DatabaseError as error:
        found.append(f"{folder / NAME}: {error}")
        return found
    every, done = sum(entry.bytes for entry in state.segments), 0
    there = {
        m: torch.tensor([n for (n,) in connection.execute("SELECT number FROM items WHERE modalities & ?", (bit,))])
        for m, bit in state.bits.items()
    }
    rows: dict[str, list[torch.Tensor]] = {m: [] for m in state.bits}
    for entry in state.segments:
        try:
            mapped = reader.mapper(folder, entry, state.about["dim"])
        except (OSError, ValueError) as error:
            found.append(str(error))
        else:
            known = torch.cat([there[entry.modality].long(), state.dead])
            if not torch.isin(mapped.sample, known).all():
                found.append(f"segment {entry.id} has {entry.modality} of samples that the index lacks")
            rows[entry.modality].append(mapped.sample)
        done += entry.bytes
        if progress is not None:
            progress(done, every)
    if not found:
        for m, parts in rows.items():
            lacking = ~torch.isin(there[m].long(), torch.cat([*parts, torch.empty(0, dtype=torch.long)]))
            if lacking.any():
                found.append(f"{int(lacking.sum())} samples have lost their rows of {m}")
    return found


def _check_items(connection: sqlite3.Connection) -> list[str]:
    found: list[str] = []
    numbers = [number for (number,) in connection.execute("SELECT number FROM items ORDER BY number")]
    for start in range(0, len(numbers), BATCH):
        some = numbers[start : start + BATCH]
        try:
            read_items(connection, some)
        except (ValueError, KeyError):
            found += [line for number in some if (line := _check_item(connection, number))]
    return found


def _check_item(connection: sqlite3.Connection, number: int) -> str:
    try:
        read_items(connection, [number])
    except (ValueError, KeyError) as error:
        return str(error)
    return ""
