"""The state of an index at one generation, as a reader holds it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, final

import torch
from torch import Tensor

from align.search.local.segments import Entry, list_segments

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

    def mark(self, of: str) -> str:
        """Return the checksum of a modality's list of segments with their deleted rows, "" for no rows."""
        listed = [list(entry) for entry in self.segments if entry.modality == of]
        if of not in self.modalities:
            return ""
        return self.keep(f"mark {of}", lambda: hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:32])

    def keep(self, name: str, run: Callable[[], T]) -> T:
        """Return the result of `run` at this generation, from memory where it was asked for lately."""
        if name in self.kept:
            return self.kept[name]
        value = run()
        for old in list(self.kept)[:-KEPT]:
            self.kept.pop(old, None)
        self.kept[name] = value
        return value


class Standing(NamedTuple):
    """A modality at one generation. mark: see ``State.mark``. samples: with a row. passed: those that pass a filter."""

    generation: int
    dim: int
    mark: str
    samples: int
    passed: int


def read_state(connection: sqlite3.Connection, generation: int) -> State:
    """Return the state that a connection sees."""
    about = {name: json.loads(value) for name, value in connection.execute("SELECT name, value FROM about")}
    about.pop("generation", None)
    bits = {name: 1 << place for name, place in connection.execute("SELECT name, id FROM modalities")}
    dead = torch.tensor([number for (number,) in connection.execute("SELECT number FROM dead ORDER BY number")])
    top = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'items'").fetchone()
    return State(generation, about, bits, list_segments(connection), dead.long(), 1 + (top[0] if top else 0))


def read_generation(connection: sqlite3.Connection) -> int:
    """Return the number of the last change, or -1."""
    found = connection.execute("SELECT value FROM about WHERE name = 'generation'").fetchone()
    return int(found[0]) if found else -1
