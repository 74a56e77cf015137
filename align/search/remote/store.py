"""The contract of a server of vectors: collections of rows under keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from align.search.remote.keys import TOP
from align.search.remote.mark import Mark


class Collection(NamedTuple):
    """A collection as the server describes it. mark: None where it is not ours. dim, metric: None for unknown ones."""

    mark: Mark | None
    dim: int | None
    metric: str | None


class Passing(NamedTuple):
    """Samples that a search may find: numbers from ``low`` to below ``high``, and of these ``only``, None for all."""

    low: int
    high: int
    only: Sequence[int] | None = None

    @property
    def whole(self) -> bool:
        """True where every sample passes."""
        return self.only is None and self.low <= 0 and self.high >= TOP


class Store(Protocol):
    """A server of vectors.

    Every method raises ``Unavailable`` where the server does not answer in time or fails, PermissionError where it asks
    for another token, and ``Stale`` for a collection that is not there. ``describe`` returns None for that.
    """

    url: str
    where: str
    """The server's kind and URL, for messages."""
    most: int
    """Rows that one search, or one reading of keys, may answer with."""

    effort: float
    """The factor of the candidates that a search keeps."""

    @property
    def failed(self) -> bool:
        """True where the last request met a server that did not answer."""
        ...

    def say_effort(self) -> str:
        """Return the effort of a search in words."""
        ...

    def block(self, dim: int) -> int:
        """Return the number of rows that one request may bring."""
        ...

    def describe(self, name: str) -> Collection | None:
        """Return a collection's facts, or None where there is none of this name."""
        ...

    def read_mark(self, name: str) -> Mark | None:
        """Return a collection's mark, in one short request."""
        ...

    def list_names(self) -> list[str]:
        """Return the names of all collections."""
        ...

    def create(self, mark: Mark) -> None:
        """Make an empty collection with its mark."""
        ...

    def prepare(self, name: str) -> None:
        """Make a collection ready to be searched, also one whose making was stopped in the middle."""
        ...

    def note(self, mark: Mark) -> None:
        """Put a mark in the place of a collection's mark."""
        ...

    def keys(self, name: str, low: int, high: int) -> dict[int, int]:
        """Return key -> digest of the rows of samples from low to below high."""
        ...

    def put(self, name: str, keys: Tensor, digests: Sequence[int], rows: Tensor) -> None:
        """Store rows (n, D) under keys (n,), over the rows that have these keys."""
        ...

    def remove(self, name: str, keys: Sequence[int]) -> None:
        """Remove the rows with these keys."""
        ...

    def settle(self, name: str) -> None:
        """Bring all changes to the disk, and into what a search sees."""
        ...

    def search(self, name: str, query: Tensor, limit: int, passing: Passing) -> tuple[Tensor, Tensor]:
        """Return the keys (q, limit) and the products (q, limit) of the best rows, -1 and -inf for want of rows."""
        ...

    def drop(self, name: str) -> None:
        """Remove a collection. One that is not there is no error."""
        ...
