"""Padded: features as they stand, with zeros behind them."""

from __future__ import annotations

from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from align.heads.tokens import read_tokens
from align.values import Features


@final
class Padded(nn.Module):
    """The features themselves with zeros behind them, for cached embeddings of an earlier model with fewer dimensions.

    A product with such a row reads the first ``width`` coordinates alone. It has no parameters. It is also the head of
    rows that a term reads as they are, such as the spaces of a pseudo-pair (``align.losses.Decouple``).

    Raises ValueError where ``width``, the earlier model's, is above ``dim``, the model's.
    """

    def __init__(self, width: int, dim: int):
        super().__init__()
        if width > dim:
            raise ValueError(f"Padded adds coordinates, so dim is width at least; got {width} and {dim}")
        self.width, self.dim = width, dim

    def forward(self, features: Features, tokens: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        pooled = self._pad(features.pooled)  # (n, D)
        return (pooled, self._pad(read_tokens(features))) if tokens else pooled

    def _pad(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, self.dim - self.width))
