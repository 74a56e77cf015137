"""Linear: one matrix from features to embeddings."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from align.heads.tokens import read_tokens
from align.values import Features


@final
class Linear(nn.Module):
    """One matrix, as in CLIP (Radford et al. 2021, arXiv:2103.00020, figure 3)."""

    def __init__(self, width: int, dim: int, bias: bool = False):
        super().__init__()
        self.width, self.dim = width, dim
        self.bias = bias
        self.project = nn.Linear(width, dim, bias=bias)
        nn.init.normal_(self.project.weight, std=width**-0.5)  # keeps the features' size
        if bias:
            nn.init.zeros_(self.project.bias)

    def forward(self, features: Features, tokens: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        pooled = self.project(features.pooled)  # (n, D)
        return (pooled, self.project(read_tokens(features))) if tokens else pooled
