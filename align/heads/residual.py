"""Residual: the features plus a change of low rank."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from align.heads.tokens import read_tokens
from align.values import Features


@final
class Residual(nn.Module):
    """The features plus a change of low rank, x + U Vᵀ x (Hu et al. 2021, arXiv:2106.09685, equation 3, with the
    identity for the frozen matrix).

    U begins as zero, so the head is the identity before the first step. It adapts a space that is good already, such as
    that of a published model, along ``rank`` directions. U and V are (width, rank). V begins as in a linear layer.

    Raises ValueError where ``width`` is not ``dim``, and for a rank outside 1..width.
    """

    def __init__(self, width: int, dim: int, rank: int = 8):
        super().__init__()
        if width != dim:
            raise ValueError(f"Residual adds to the features, so width and dim are equal; got {width} and {dim}")
        if not 1 <= rank <= width:
            raise ValueError(f"rank is 1 to the width, {width}; got {rank}")
        self.width, self.dim, self.rank = width, dim, rank
        self.u = nn.Parameter(torch.zeros(width, rank))
        self.v = nn.Parameter(torch.randn(width, rank) * width**-0.5)

    def forward(self, features: Features, tokens: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        pooled = self._add(features.pooled)  # (n, D)
        return (pooled, self._add(read_tokens(features))) if tokens else pooled

    def _add(self, x: Tensor) -> Tensor:
        return x + x @ self.v @ self.u.T
