"""Rows of one modality: the input of a tower, its features, and its embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

Values = Tensor | dict[str, Tensor]


class Rows(NamedTuple):
    """n rows of one modality, in the order of their samples.

    values: (n, ...), or a dict of such tensors.
    sample: (n,) int64, the sample 0..B-1 of this rank that each row belongs to. A hard negative has -1, which matches
    nothing. It stands behind a row of its sample.
    tokens: (n, L, D) and mask: (n, L) bool, true where a token is real, where a loss asked for them.
    content: (n,) int64, equal for rows that were read from equal content, where an evaluation asked for it.
    part: (n,) int64, the part of its sample that each row is about, or -1 for the whole. None: every row is about the
    whole. Rows of modalities that all have parts belong together where both the sample and the part are equal.
    """

    values: Values
    sample: Tensor
    tokens: Tensor | None = None
    mask: Tensor | None = None
    content: Tensor | None = None
    part: Tensor | None = None

    @property
    def n(self) -> int:
        """Number of rows; ``len`` counts the tuple's fields."""
        return len(self.sample)

    @property
    def owner(self) -> Tensor:
        """(n,) the sample that each row travels with. For a hard negative it is that of the rows before it, or -1."""
        return torch.where(self.sample >= 0, self.sample, self.sample.cummax(0).values)

    def slice(self, start: int, stop: int) -> Rows:
        """Return the rows of the samples start..stop-1, numbered from 0.

        A hard negative goes with its owner. Those before the first row go with sample 0, so that no row is lost.
        """
        owner = self.owner.clamp(min=0)
        inside = (owner >= start) & (owner < stop)  # (n,)
        rows = Rows(*(map_tensors(part, lambda x: x[inside]) for part in self))
        return rows._replace(sample=torch.where(rows.sample >= 0, rows.sample - start, rows.sample))


class Features(NamedTuple):
    """Output of an encoder.

    pooled: (n, W). tokens: (n, L, W) or None. mask: (n, L) bool or None, true where a token is real.
    """

    pooled: Tensor
    tokens: Tensor | None = None
    mask: Tensor | None = None


def map_tensors(x: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Apply a function to every tensor in rows and dicts. Anything else stays as it is."""
    if isinstance(x, Tensor):
        return function(x)
    if isinstance(x, Rows):
        return Rows(*(map_tensors(part, function) for part in x))
    if isinstance(x, dict):
        return {k: map_tensors(v, function) for k, v in x.items()}
    return x
