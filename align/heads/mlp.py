"""MLP: linear layers with GELU or ReLU between."""

from __future__ import annotations

from typing import Literal, final

from torch import Tensor, nn

from align.heads.tokens import read_tokens
from align.values import Features


@final
class MLP(nn.Module):
    """``depth`` linear layers with an activation and dropout between them (SimCLR's projection, Chen et al. 2020,
    arXiv:2002.05709, section 4.2).

    ``MLP(width, dim, hidden=n, activation="relu")`` is a head of EBind (Broadbent et al. 2025, arXiv:2511.14229): two
    linear layers with ReLU between them and no norm. ``align.published.ebind`` maps the names of its checkpoint both
    ways, ``projectors.audio.net.0`` and ``net.2`` to ``project.0`` and ``project.3``.

    hidden: width of the layers between. None takes ``width``. activation: gelu or relu.
    """

    def __init__(
        self,
        width: int,
        dim: int,
        hidden: int | None = None,
        depth: int = 2,
        dropout: float = 0.0,
        activation: Literal["gelu", "relu"] = "gelu",
    ):
        super().__init__()
        if activation not in ("gelu", "relu"):
            raise ValueError(f"activation is gelu or relu, not {activation!r}")
        if depth < 1:
            raise ValueError(f"depth must be at least 1, not {depth}")
        self.width, self.dim = width, dim
        self.hidden, self.depth, self.dropout, self.activation = hidden, depth, dropout, activation
        act = nn.ReLU if activation == "relu" else nn.GELU
        sizes = [width, *[hidden or width] * (depth - 1), dim]
        layers: list[nn.Module] = []
        for i in range(depth):
            layers += [nn.Linear(sizes[i], sizes[i + 1]), act(), nn.Dropout(dropout)]
        self.project = nn.Sequential(*layers[:-2])

    def forward(self, features: Features, tokens: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        pooled = self.project(features.pooled)  # (n, D)
        return (pooled, self.project(read_tokens(features))) if tokens else pooled
