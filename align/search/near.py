"""Near duplicates among hits: one of them stands for all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

BOUND = 0.99
"""Cosine from which two samples are near duplicates by default.

In the quickstart's space of 64 dimensions, a picture and its JPEG of quality 60 have .990 at least, and 38 of 124,750
pairs of different pictures come that near. Another model's space can need another bound.
"""

DEEPEST = 10_000
"""Samples among which a search looks for near duplicates."""


def fold_near(values: Tensor, sample: Tensor, order: Sequence[int], bound: float = BOUND) -> list[list[int]]:
    """Return the samples in groups of near duplicates, each with its best sample first, in the order of these.

    A sample folds into the first group whose best sample has a row with a cosine of at least ``bound`` with one of its
    own. So a group has no chains: each is near its best. Equal content has equal rows, so it folds at any bound.

    values: (n, D) rows, sample: (n,) their samples. order: the samples, best first. Raises ValueError for a bound
    outside of 0..1.
    """
    if not 0 <= bound <= 1:
        raise ValueError(f"near is a cosine between 0 and 1, got {bound}")
    rows = F.normalize(values.float(), dim=1)
    places: dict[int, list[int]] = {}
    for place, number in enumerate(sample.tolist()):
        places.setdefault(number, []).append(place)
    groups: list[list[int]] = []
    heads, owner, n = torch.empty_like(rows), torch.zeros(len(rows), dtype=torch.long), 0  # best rows, their groups
    for number in order:
        these = rows[places[number]]  # (r, D)
        close = ((heads[:n] @ these.T) >= bound - 1e-6).any(dim=1)
        if bool(close.any()):
            groups[int(owner[:n][close].min())].append(number)
            continue
        groups.append([number])
        heads[n : n + len(these)], owner[n : n + len(these)] = these, len(groups) - 1
        n += len(these)
    return groups
