"""Padded: features as they stand, with zeros behind them."""

from __future__ import annotations

from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from align.heads.tokens import read_tokens
from align.values import Features


@final
class Padded(nn.Module):
    """The features themselves, filled up with zeros to D. It has no parameters.

    It is the head of rows that a term reads as they are, such as the spaces of a pseudo-pair
    (``align.losses.Decouple``).

    Raises ValueError where ``width`` is more than ``dim``.
    """

    def __init__(self, width: int, dim: int):
        super().__init__()
        if width > dim:
            raise ValueError(f"Padded adds zeros to the features, so width is at most dim; got {width} and {dim}")
        self.width, self.dim = width, dim

    def forward(self, features: Features, tokens: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        pooled = self._fill(features.pooled)  # (n, D)
        return (pooled, self._fill(read_tokens(features))) if tokens else pooled

    def _fill(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, self.dim - self.width))
