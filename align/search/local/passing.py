"""The samples that a filter lets through."""

from __future__ import annotations

import sqlite3

import numpy as np
import torch
from torch import Tensor

from align.search.local.filters import Condition, compile_filter
from align.search.local.state import State
from align.search.where import Where, check_keys


def condition(connection: sqlite3.Connection, state: State, where: Where | None) -> Condition | None:
    """Return a filter as SQL, or None for no filter. Raises ValueError, with the nearest, for an unknown key."""
    if where is None:
        return None
    known = state.keep("keys", lambda: [name for (name,) in connection.execute("SELECT name FROM keys")])
    check_keys(where, known, list(state.bits))
    return compile_filter(where, state.bits)


def numbers(connection: sqlite3.Connection, state: State, of: str | None, where: Where | None) -> Tensor:
    """Return the numbers of the samples with rows of a modality that a filter lets through, ascending."""
    passed = _both(connection, state, of, where)
    found = connection.execute(f"SELECT items.number FROM items WHERE {passed.sql} ORDER BY 1", passed.values)
    return torch.from_numpy(np.fromiter((number for (number,) in found), dtype=np.int64))


def count(connection: sqlite3.Connection, state: State, of: str | None, where: Where | None) -> int:
    """Return the number of these samples."""
    passed = _both(connection, state, of, where)

    def run() -> int:
        return connection.execute(f"SELECT count(*) FROM items WHERE {passed.sql}", passed.values).fetchone()[0]

    return state.keep(f"count {of!r} {where!r}", run)


def mask(connection: sqlite3.Connection, state: State, where: Where | None) -> Tensor | None:
    """Return for each sample number whether a search may find it, or None where it may find all."""
    if where is None:
        return state.alive()

    def run() -> Tensor:
        table = torch.zeros(state.size, dtype=torch.bool)
        table[numbers(connection, state, None, where)] = True
        return table

    condition(connection, state, where)  # an unknown key is refused before anything is remembered
    return state.keep(f"mask {where!r}", run)


def _both(connection: sqlite3.Connection, state: State, of: str | None, where: Where | None) -> Condition:
    parts = [part for part in (condition(connection, state, where),) if part]
    if of is not None:
        parts.append(Condition("(items.modalities & ?) != 0", [state.bits.get(of, 0)]))
    return Condition(" AND ".join(p.sql for p in parts) or "1", [value for p in parts for value in p.values])
