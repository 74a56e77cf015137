"""A map of rows: the two directions of the highest variance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from align.metrics.geometry.spectrum import Moments


class Plane(NamedTuple):
    """A plane through rows. middle: (D,). axes: (D, 2), of length 1. share: of the variance that each axis keeps."""

    middle: Tensor
    axes: Tensor
    share: tuple[float, float]


def plane(sums: Sequence[Moments]) -> Plane:
    """Return the first two principal components of several modalities' rows together (Pearson 1901,
    doi:10.1080/14786440109462720). Axes point to where their largest number is positive. D is at least 2."""
    n = sum(one.n for one in sums)
    middle = torch.stack([one.total for one in sums]).sum(dim=0) / n
    covariance = torch.stack([one.gram for one in sums]).sum(dim=0) / n - middle.outer(middle)
    spectrum, vectors = torch.linalg.eigh(covariance)
    axes = vectors[:, -2:].flip(1)
    largest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    total = float(spectrum.clamp(min=0).sum())
    first, second = (float(spectrum[i].clamp(min=0)) / total if total > 0 else 0.0 for i in (-1, -2))
    return Plane(middle, axes * largest.sign(), (first, second))
