"""The contract of an approximate search: finders of samples, and the backends that make them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor


class Finder(Protocol):
    """Rows of one modality behind an approximate search. It proposes samples, which are then scored exactly."""

    def propose(self, query: Tensor, n: int, among: Tensor | None = None) -> Tensor:
        """Return up to n samples' numbers for each query: (q, n) int64, best first, -1 where there are fewer.

        query: (q, D) unit or not, float32, CPU. among: (m,) ascending numbers of the samples that may be proposed,
        None: all.
        """
        ...


class Backend(Protocol):
    """A kind of approximate search: makes and opens finders."""

    name: str

    def make(self, of: str, rows: Iterator[tuple[Tensor, Tensor]], facts: Mapping[str, Any]) -> dict[str, Any]:
        """Store the unit rows of a modality, and return plain facts about them for index.json.

        rows: blocks of (n, D) float32 and (n,) ascending numbers. facts: index id, generation, dim, rows.
        """
        ...

    def open(self, of: str, facts: Mapping[str, Any]) -> Finder:
        """Return the finder of a modality. facts: the given ones and those that ``make`` returned."""
        ...

    def drop(self) -> None:
        """Remove everything that is stored."""
        ...


class Unavailable(ConnectionError):
    """A backend that cannot be reached now, with one line that says which and why."""


class Stale(LookupError):
    """A finder whose rows are not those of the index now, with one line that says why."""


class TooFew(ValueError):
    """A modality with fewer rows than a backend needs. The others can be made."""
