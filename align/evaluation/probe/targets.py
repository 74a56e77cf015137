"""Numbers of the samples' json, which a probe predicts."""

from __future__ import annotations

from math import isfinite, nan
from typing import Any

import torch
from torch import Tensor

from align.evaluation.space import Space, Split


def read_targets(space: Space, split: Split, key: str) -> Tensor:
    """Return the number of each sample under a key of its json, (B,) float64, nan where it has none.

    Raises ValueError where no sample has one, with the keys that have.
    """
    stated = space.json(split)
    found = [_number(one.get(key)) for one in stated]
    if all(value != value for value in found):
        numeric = sorted({name for one in stated for name, value in one.items() if isfinite(_number(value))})
        there = ", ".join(numeric) or "no key"
        raise ValueError(f"--targets {key}: no sample of the {split} split has a number there; {there} has one")
    return torch.tensor(found, dtype=torch.float64)


def _number(value: Any) -> float:
    """Return a finite number as it is, nan for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return nan
    try:
        return float(value) if isfinite(value) else nan
    except OverflowError:  # an int that no float can hold
        return nan
