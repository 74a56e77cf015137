"""Numbers of a hub correction by row of an index, found again after samples were added, deleted and compacted."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Shift(NamedTuple):
    """One number for each row that an index had of a modality when it was corrected.

    sample: (n,) numbers of the samples in ascending order, the rows of one sample in their order. shift: (n,) float32.
    method: the correction's name. mark: differs for numbers that differ, by which an index remembers their matches.
    """

    sample: Tensor
    shift: Tensor
    method: str
    mark: str = ""

    @property
    def mean(self) -> float:
        """The number of a row that was added later: it is neither favoured nor put back among the others."""
        return float(self.shift.double().mean()) if len(self.shift) else 0.0

    def match(self, sample: Tensor) -> Tensor:
        """Return the number of each row, (m,) float32. sample: (m,) ascending, with all rows of each sample."""
        place, there = self._find(sample)
        found = torch.full((len(sample),), self.mean)
        found[there] = self.shift[place[there]]
        return found

    def count_missing(self, sample: Tensor) -> int:
        """Return how many rows have no number. sample: (m,) as of ``match``."""
        return int((~self._find(sample)[1]).sum())

    def _find(self, sample: Tensor) -> tuple[Tensor, Tensor]:
        """Return the place of each row (m,), and which rows are there (m,) bool."""
        within = torch.arange(len(sample)) - torch.searchsorted(sample, sample)
        place = torch.searchsorted(self.sample, sample) + within
        there = place < len(self.sample)
        there[there.clone()] = self.sample[place[there]] == sample[there]
        return place, there


def name_shift(query: str, of: str, how: str) -> str:
    """Return the name under which an index keeps a correction: "text_to_image/objective"."""
    return f"{query}_to_{of}/{how}"


def match_segments(shift: Shift, samples: list[Tensor]) -> list[Tensor]:
    """Return the numbers of the rows of each segment. samples: (n,) of each, ascending inside it.

    A sample's rows may stand in two segments that follow one another.
    """
    every = torch.cat(samples) if samples else torch.empty(0, dtype=torch.long)
    order = every.argsort(stable=True)
    found = torch.empty(len(every))
    found[order] = shift.match(every[order])
    return list(found.split([len(sample) for sample in samples]))
