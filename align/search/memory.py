"""An index in memory: the plainest one that keeps the contract, and the reference of the others' tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from align.search.exact import find_best
from align.search.index import Facet
from align.search.item import Item
from align.search.matching import matches
from align.search.shift import Shift
from align.search.where import Where
from align.values import Rows


@final
class MemoryIndex:
    """An index of embeddings in memory."""

    def __init__(self, about: Mapping[str, Any] | None = None):
        self.about: dict[str, Any] = dict(about or {})
        self._items: dict[int, Item] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._values: dict[str, Tensor] = {}  # unit vectors, then their norm in the last column: (n, D + 1)
        self._sample: dict[str, Tensor] = {}
        self._shifts: dict[str, Shift] = {}
        self._next = 1

    @property
    def modalities(self) -> Mapping[str, int]:
        """Modality -> rows."""
        return {m: len(sample) for m, sample in self._sample.items() if len(sample)}

    def add(self, of: str, values: Tensor, sample: Tensor, items: Sequence[Item]) -> None:
        """Add rows of a modality, see ``Index.add``."""
        places = []
        for item in items:
            mark = (item.place, item.key)
            if mark not in self._numbers:
                self._numbers[mark], self._items[self._next] = self._next, item
                self._next += 1
            places.append(self._numbers[mark])
        numbers = torch.tensor(places, dtype=torch.long)[sample]
        if of in self._sample:  # the rows of a sample that is there stay
            fresh = ~torch.isin(numbers, self._sample[of])
            values, numbers = values[fresh], numbers[fresh]
        values, norm = values.float(), values.float().norm(dim=1, keepdim=True)
        stored = torch.cat([F.normalize(values, dim=1), norm], dim=1)
        if of in self._values:
            stored, numbers = torch.cat([self._values[of], stored]), torch.cat([self._sample[of], numbers])
        order = numbers.argsort(stable=True)
        self._values[of], self._sample[of] = stored[order], numbers[order]
        self.about.setdefault("dim", stored.shape[1] - 1)

    def delete(self, keys: Iterable[str]) -> int:
        """Delete the samples with these keys, and return their number."""
        wanted = set(keys)
        gone = [number for number, item in self._items.items() if item.key in wanted]
        for number in gone:
            item = self._items.pop(number)
            del self._numbers[item.place, item.key]
        for m, sample in self._sample.items():
            left = ~torch.isin(sample, torch.tensor(gone, dtype=torch.long))
            self._values[m], self._sample[m] = self._values[m][left], sample[left]
        return len(gone)

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
        values, sample = self._of(of)
        keep = None if where is None else torch.isin(sample, self.numbers(of, where))
        norm, less = values[:, -1] if scaled else None, None if shift is None else shift.match(sample)
        return find_best(query, values[:, :-1], sample, k, norm=norm, keep=keep, shift=less)

    def correct(self, name: str, shift: Shift, facts: Mapping[str, Any]) -> None:
        """Keep a correction for hubs, see ``Corrected``. facts: its entry in ``about``."""
        self._shifts[name] = shift
        self.about["correction"] = {**self.about.get("correction", {}), name: dict(facts)}

    def shift(self, name: str) -> Shift:
        """Return a correction, see ``Corrected.shift``."""
        return self._shifts[name]

    def count_unshifted(self, of: str, name: str) -> int:
        """Return the number of rows that came after the correction."""
        return self._shifts[name].count_missing(self._of(of)[1])

    def rows(self, of: str, samples: Sequence[int] | Tensor) -> Rows:
        """Return the rows of these samples, each with its norm."""
        values, sample = self._of(of)
        wanted = torch.isin(sample, torch.as_tensor(samples, dtype=torch.long))
        return Rows(values[wanted, :-1] * values[wanted, -1:], sample[wanted])

    def items(self, samples: Sequence[int]) -> list[Item]:
        """Return the items with these numbers."""
        return [self._items[int(number)] for number in samples]

    def count(self, of: str | None = None, where: Where | None = None) -> int:
        """Return the number of samples that the filter lets through."""
        return len(self.numbers(of, where))

    def numbers(self, of: str | None = None, where: Where | None = None) -> Tensor:
        """Return the numbers of these samples, in ascending order."""
        have = {number: [m for m in self._sample if bool((self._sample[m] == number).any())] for number in self._items}
        kept = [
            number
            for number, item in self._items.items()
            if (of is None or of in have[number]) and (where is None or matches(where, item, have[number]))
        ]
        return torch.tensor(sorted(kept), dtype=torch.long)

    def find_text(self, text: str, k: int, where: Where | None = None) -> tuple[Tensor, Tensor]:
        """Return the samples whose captions have most of the words, by the number of these words."""
        words = text.lower().split()
        counts = {n: sum(" ".join(self._items[n].captions).lower().count(word) for word in words) for n in self._items}
        passed = set(self.numbers(None, where).tolist())
        found = sorted((n for n, count in counts.items() if count and n in passed), key=lambda n: (-counts[n], n))[:k]
        return torch.tensor([float(counts[n]) for n in found]), torch.tensor(found, dtype=torch.long)

    def facets(self, where: Where | None = None, *, values: int = 20) -> list[Facet]:
        """Return the labels with their counts."""
        labels = Counter(
            item.label for item in self.items(self.numbers(None, where).tolist()) if isinstance(item.label, str)
        )
        return [Facet("label", "text", labels.most_common(values), len(labels))] if labels else []

    def _of(self, of: str) -> tuple[Tensor, Tensor]:
        if of not in self._values:
            raise ValueError(f"the index has no {of!r}; it has {', '.join(self.modalities) or 'nothing'}")
        return self._values[of], self._sample[of]
