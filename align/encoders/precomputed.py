"""Precomputed: features that were made elsewhere and stand in the shard."""

from __future__ import annotations

from typing import final

from torch import Tensor

from align.encoders.base import Encoder
from align.values import Features


@final
class Precomputed(Encoder):
    """Features from the shard, pooled (n, W), or tokens (n, L, W) that are pooled by their mean. No parameters.

    Raises ValueError for values whose last dimension is not ``width``.
    """

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def encode(self, values: Tensor) -> Features:
        if values.ndim not in (2, 3) or values.shape[-1] != self.width:
            wanted = f"(n, {self.width}) or (n, L, {self.width})"
            raise ValueError(f"Precomputed takes values of shape {wanted}, got {tuple(values.shape)}")
        return Features(values) if values.ndim == 2 else Features(values.mean(1), values)
