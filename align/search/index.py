"""The contract of an index. It holds embeddings and items, and knows no model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from align.search.item import Item
from align.search.shift import Shift
from align.search.where import Where
from align.values import Rows


class Facet(NamedTuple):
    """A key that items can be filtered by, with its most frequent values and the number of samples of each.

    kind: "text", "number", "flag" or "list". distinct: number of different values. low, high: of a number.
    """

    key: str
    kind: str
    values: Sequence[tuple[Any, int]]
    distinct: int
    low: float | None = None
    high: float | None = None


@runtime_checkable
class Index(Protocol):
    """Rows of embeddings, each of a sample, and the items of the samples.

    Samples have numbers, which neither deleting nor compacting changes. Rows are stored as unit vectors with their
    norm.
    """

    @property
    def about(self) -> Mapping[str, Any]:
        """``dim``, ``model`` (``{"source": path or hub id, "sha256": fingerprint}``), ``parts``, ``threshold``, and
        ``correction``."""
        ...

    @property
    def modalities(self) -> Mapping[str, int]:
        """Modality -> rows."""
        ...

    def add(self, of: str, values: Tensor, sample: Tensor, items: Sequence[Item]) -> None:
        """Add rows of a modality. values: (n, D), sample: (n,) places in ``items``. Items that are there stay."""
        ...

    def delete(self, keys: Iterable[str]) -> int:
        """Delete the samples with these keys, and return their number."""
        ...

    def search(
        self,
        query: Tensor,
        of: str,
        k: int,
        where: Where | None = None,
        *,
        scaled: bool = False,
        shift: Shift | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the scores (q, k) and the samples' numbers (q, k), best first, by the inner product with each row.

        A sample's best row counts. Among equal scores the lower number comes first. There are fewer columns where
        fewer samples pass. query: (q, D). scaled: rows have their norm, not length 1. shift: numbers that are taken
        from the rows' products. An index that keeps no correction is never given one.
        """
        ...

    def rows(self, of: str, samples: Sequence[int] | Tensor) -> Rows:
        """Return the rows of these samples, each with its norm: values (n, D), and the samples' numbers, ascending."""
        ...

    def items(self, samples: Sequence[int]) -> list[Item]:
        """Return the items with these numbers. Raises KeyError for a number that is not in the index."""
        ...

    def count(self, of: str | None = None, where: Where | None = None) -> int:
        """Return the number of samples (with rows of a modality) that the filter lets through."""
        ...

    def numbers(self, of: str | None = None, where: Where | None = None) -> Tensor:
        """Return the numbers of these samples, in ascending order: (m,)."""
        ...

    def find_text(self, text: str, k: int, where: Where | None = None) -> tuple[Tensor, Tensor]:
        """Return the BM25 scores (m,), higher is better, and the samples (m,), m <= k, by full text of the captions."""
        ...

    def facets(self, where: Where | None = None, *, values: int = 20) -> list[Facet]:
        """Return the keys that a filter can name, with their most frequent values among the samples that pass."""
        ...


@runtime_checkable
class Corrected(Protocol):
    """An index that keeps corrections for hubs beside its rows. ``about["correction"]`` has a name for each."""

    def shift(self, name: str) -> Shift:
        """Return a correction by its name, see ``shift.name_shift``. Raises KeyError where the index has none."""
        ...

    def count_unshifted(self, of: str, name: str) -> int:
        """Return the number of rows of a modality that came after the correction."""
        ...


@runtime_checkable
class Noting(Protocol):
    """An index that says how it searched."""

    def list_notes(self) -> list[str]:
        """Return sentences about the last search of this thread."""
        ...
