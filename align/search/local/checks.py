"""Verification of a whole index: every checksum, every list against every other."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import torch

from align.search.leaves import kind_of, list_leaves
from align.search.local.corrections import check_shifts
from align.search.local.entries import pick_spaceless, read_items
from align.search.local.filters import KINDS
from align.search.local.reader import Reader
from align.search.local.state import State
from align.search.local.tables import NAME

BATCH = 1000


def check_folder(
    reader: Reader, connection: sqlite3.Connection, state: State, progress: Callable[[int, int], Any] | None = None
) -> list[str]:
    """Return a line for each damage: of the SQLite file, an item's checksum, a segment, or a row of no sample.

    What filters and the search for parts of words read is compared with the items. The words of a full text search
    are not, for they hold no copy of the text.

    progress: called with the bytes that were read, and their sum.
    """
    found: list[str] = []
    folder = reader.folder
    try:
        lines = [line for (line,) in connection.execute("PRAGMA integrity_check(10)")]
        found += [f"{folder / NAME}: {line}" for line in lines if line != "ok"]
        found += _check_items(connection)
        found += check_shifts(connection, list(state.about.get("correction") or {}))
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
    marks: dict[int, int] = {}  # number -> the sum of hashes of its values
    numbers = [number for (number,) in connection.execute("SELECT number FROM items ORDER BY number")]
    for start in range(0, len(numbers), BATCH):
        some = numbers[start : start + BATCH]
        try:
            items = read_items(connection, some)
        except (ValueError, KeyError, sqlite3.OperationalError):
            found += [line for number in some if (line := _check_item(connection, number))]
            continue
        listed = ", ".join("?" for _ in some)
        sql = f"SELECT number, text, modalities FROM items WHERE number IN ({listed})"
        texts = {number: text for number, text, _ in connection.execute(sql, some)}
        for number, item in zip(some, items, strict=True):
            if texts[number] != pick_spaceless(item):
                found.append(f"the text of sample {number} is not its captions; make the index anew")
            marks[number] = sum(
                hash((leaf.key, KINDS[kind_of(leaf.value)], leaf.value, int(leaf.listed))) for leaf in list_leaves(item)
            )
    if not found:
        sql = "SELECT number, name, kind, value, listed FROM leaves JOIN keys ON keys.id = key"
        for number, *leaf in connection.execute(sql):
            marks[number] = marks.get(number, 0) - hash(tuple(leaf))
        wrong = [number for number, mark in marks.items() if mark]
        found += [f"the values of sample {number} are not those of its json; make the index anew" for number in wrong]
    return found


def _check_item(connection: sqlite3.Connection, number: int) -> str:
    try:
        read_items(connection, [number])
    except sqlite3.OperationalError:
        return f"the entry of sample {number} is damaged: a text is no UTF-8; make the index anew"
    except (ValueError, KeyError) as error:
        return str(error)
    return ""
