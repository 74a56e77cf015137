"""An index in front of another, which keeps the rows and the items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from align.search.index import Facet
from align.search.item import Item
from align.search.where import Where
from align.values import Rows


class Front:
    """Abstract: a leaf writes ``about``, ``add``, ``delete`` and ``search``. All else is that of the index behind."""

    index: Any

    @property
    def modalities(self) -> Mapping[str, int]:
        """Modality -> rows."""
        return self.index.modalities

    def rows(self, of: str, samples: Sequence[int] | Tensor) -> Rows:
        """Return the rows of these samples, each with its norm."""
        return self.index.rows(of, samples)

    def items(self, samples: Sequence[int]) -> list[Item]:
        """Return the items with these numbers."""
        return self.index.items(samples)

    def count(self, of: str | None = None, where: Where | None = None) -> int:
        """Return the number of samples that the filter lets through."""
        return self.index.count(of, where)

    def numbers(self, of: str | None = None, where: Where | None = None) -> Tensor:
        """Return the numbers of these samples, in ascending order."""
        return self.index.numbers(of, where)

    def find_text(self, text: str, k: int, where: Where | None = None) -> tuple[Tensor, Tensor]:
        """Return the samples by full text of the captions, see ``Index.find_text``."""
        return self.index.find_text(text, k, where)

    def facets(self, where: Where | None = None, *, values: int = 20) -> list[Facet]:
        """Return the keys that a filter can name."""
        return self.index.facets(where, values=values)
