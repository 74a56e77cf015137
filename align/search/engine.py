"""An index whose rows are searched by another engine than the dense product."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, final

import torch
from torch import Tensor

from align.search.front import Front
from align.search.hits import read_rows
from align.search.index import Index
from align.search.item import Item
from align.search.shift import Shift
from align.search.where import Where


class Engine(Protocol):
    """Rows of one modality, made ready to be searched."""

    def search(self, query: Tensor, k: int, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the scores (q, k) and the samples (q, k) of queries (q, D), as ``Index.search`` does.

        keep: (n,) bool, False for rows that do not take part.
        """
        ...


Make = Callable[[Tensor, Tensor], Engine]
"""Makes an engine of unit rows (n, D) and their samples (n,), ascending."""


@final
class Engined(Front):
    """An index in front of another, which keeps the rows and items. An engine searches a modality's rows.

        index = align.open_index("idx")
        fast = Searcher(Engined(index.index, Inverted), index.model)

    An engine is made of the rows when a modality is first searched, and again after a change of the index. Its search
    is by the product with unit rows: a rule that reads a row's length, or a correction for hubs, asks the index behind.
    """

    def __init__(self, index: Index, make: Make):
        self.index, self.make = index, make
        self._made: dict[str, tuple[Any, Engine, Tensor]] = {}
        self._lock = threading.Lock()

    @property
    def about(self) -> Mapping[str, Any]:
        """The facts of the index behind, without its corrections for hubs, which an engine does not read."""
        return {key: value for key, value in self.index.about.items() if key != "correction"}

    def add(self, of: str, values: Tensor, sample: Tensor, items: Sequence[Item]) -> None:
        """Add rows of a modality, see ``Index.add``."""
        self.index.add(of, values, sample, items)
        self._made.clear()

    def delete(self, keys: Iterable[str]) -> int:
        """Delete the samples with these keys, and return their number."""
        gone = self.index.delete(keys)
        self._made.clear()
        return gone

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
        """Return the best samples of each query, see ``Index.search``."""
        if scaled or shift is not None:
            return self.index.search(query, of, k, where, scaled=scaled, shift=shift)
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        engine, sample = self._engine(of)
        keep = None if where is None else torch.isin(sample, self.index.numbers(of, where))
        return engine.search(query.detach().cpu(), k, keep)

    def _engine(self, of: str) -> tuple[Engine, Tensor]:
        if of not in self.index.modalities:
            raise ValueError(f"the index has no {of!r}; it has {', '.join(self.index.modalities) or 'nothing'}")
        state = getattr(self.index, "generation", None)
        with self._lock:
            if of not in self._made or self._made[of][0] != state:
                values, sample = read_rows(self.index, of, self.index.numbers(of))
                unit = torch.nn.functional.normalize(values.float(), dim=1)
                self._made[of] = state, self.make(unit, sample), sample
            return self._made[of][1:]
