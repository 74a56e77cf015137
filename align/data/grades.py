"""Grades of a sample's pairs, ``grade: {"audio+points": "partial"}`` in its json: how well two modalities match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from align.values import GRADES


def read_grades(stated: Any) -> tuple[dict[str, int], bool]:
    """Return pair -> grade, as an index in ``GRADES``, and True where all of ``stated`` could be read.

    A pair is two names joined by "+". Here they are in sorted order. None means no grades.
    """
    if stated is None:
        return {}, True
    if not isinstance(stated, Mapping):
        return {}, False
    found, sound = {}, True
    for pair, word in stated.items():
        names = sorted(str(pair).split("+"))
        if len(names) == 2 and all(names) and names[0] != names[1] and isinstance(word, str) and word in GRADES:
            name = "+".join(names)
            found[name] = max(GRADES.index(word), found.get(name, 0))  # stated in both orders: the worse counts
        else:
            sound = False
    return found, sound


def in_words(grade: Mapping[str, int]) -> dict[str, str]:
    """Return grades as a json states them."""
    return {pair: GRADES[place] for pair, place in grade.items()}


def grade_columns(samples: Sequence[Mapping[str, int]]) -> dict[str, Tensor] | None:
    """Return pair -> the grades (B,) of the samples, for each pair that a sample states. None: no sample states any."""
    pairs = sorted({pair for sample in samples for pair in sample})
    if not pairs:
        return None
    return {pair: torch.tensor([sample.get(pair, 0) for sample in samples], dtype=torch.int64) for pair in pairs}


def join_grades(parts: Sequence[Mapping[str, Tensor] | None], sizes: Sequence[int]) -> dict[str, Tensor] | None:
    """Return the grades of several batches of these sizes as one. A pair without a grade is good. None: no grades."""
    pairs = sorted({pair for part in parts for pair in part or ()})
    if not pairs:
        return None
    none: Mapping[str, Tensor] = {}
    both = [*zip(parts, sizes, strict=True)]
    return {
        pair: torch.cat([(part or none).get(pair, torch.zeros(size, dtype=torch.int64)) for part, size in both])
        for pair in pairs
    }
