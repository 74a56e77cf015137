"""MLP: linear layers with GELU between."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from align.heads.tokens import read_tokens
from align.values import Features


@final
class MLP(nn.Module):
    """``depth`` linear layers with GELU and dropout between them (SimCLR's projection, Chen et al. 2020,
    arXiv:2002.05709, section 4.2).

    hidden: width of the layers between. None takes ``width``.
    """

    def __init__(self, width: int, dim: int, hidden: int | None = None, depth: int = 2, dropout: float = 0.0):
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth must be at least 1, not {depth}")
        self.width, self.dim = width, dim
        self.hidden, self.depth, self.dropout = hidden, depth, dropout
        sizes = [width, *[hidden or width] * (depth - 1), dim]
        layers: list[nn.Module] = []
        for i in range(depth):
            layers += [nn.Linear(sizes[i], sizes[i + 1]), nn.GELU(), nn.Dropout(dropout)]
        self.project = nn.Sequential(*layers[:-2])

    def forward(self, features: Features, tokens: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        pooled = self.project(features.pooled)  # (n, D)
        return (pooled, self.project(read_tokens(features))) if tokens else pooled
