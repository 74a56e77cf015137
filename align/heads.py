"""Heads: an encoder's features -> embeddings of the joint space. Linear, MLP, attention pooling over
tokens, and none at all.

``head(features, tokens=False)`` gives (n, D), with ``tokens`` also (n, L, D). Its first two parameters are
``width, dim``; the model gives those, a config gives the rest.
"""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.values import Features


def _tokens(features: Features) -> Tensor:
    if features.tokens is None:
        raise ValueError("tokens were asked for, but the encoder gives pooled features only")
    return features.tokens


@final
class Identity(nn.Module):
    """Features that live in the joint space already, as they are: of a frozen teacher, whose width is the model's dim.

    Raises ValueError where the two differ.
    """

    def __init__(self, width: int, dim: int):
        super().__init__()
        if width != dim:
            raise ValueError(f"Identity leaves features as they are, so width and dim are equal; got {width} and {dim}")
        self.width, self.dim = width, dim

    def forward(self, features: Features, tokens: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        return (features.pooled, _tokens(features)) if tokens else features.pooled


@final
class Linear(nn.Module):
    """One matrix, as CLIP has it (Radford et al. 2021, arXiv:2103.00020, figure 3)."""

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
        return (pooled, self.project(_tokens(features))) if tokens else pooled


@final
class MLP(nn.Module):
    """``depth`` linear layers with GELU and dropout between (SimCLR's projection, arXiv:2002.05709, section 4.2).

    hidden: width of the layers between; None takes the encoder's.
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
        return (pooled, self.project(_tokens(features))) if tokens else pooled


@final
class AttentionPool(nn.Module):
    """One learned query attends over the tokens (Lee et al. 2019, arXiv:1810.00825, equation 11, one seed, no
    feed-forward), then one matrix. Where an encoder gives no tokens, its pooled features are the only token.

    heads: attention heads; must divide width.
    """

    def __init__(self, width: int, dim: int, heads: int = 4):
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"heads must divide width; {width} is no multiple of {heads}")
        self.width, self.dim, self.heads = width, dim, heads
        self.query = nn.Parameter(torch.randn(width) * width**-0.5)
        self.norm = nn.LayerNorm(width)
        self.key_value = nn.Linear(width, 2 * width)
        self.project = nn.Linear(width, dim, bias=False)
        nn.init.normal_(self.project.weight, std=width**-0.5)

    def forward(self, features: Features, tokens: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        x = features.pooled[:, None] if features.tokens is None else features.tokens
        if tokens:
            _tokens(features)
        parts = self.key_value(self.norm(x)).unflatten(-1, (2, self.heads, -1))  # (n, L, 2, heads, W / heads)
        key, value = parts.permute(2, 0, 3, 1, 4)
        query = self.query.view(1, self.heads, 1, -1).expand(len(x), -1, -1, -1)
        mask = None
        if features.tokens is not None and features.mask is not None:
            real = features.mask | ~features.mask.any(1, keepdim=True)  # a row without a real token reads them all
            mask = real[:, None, None]  # (n, 1, 1, L)
        pooled = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)[:, :, 0].flatten(1)  # (n, W)
        if not tokens:
            return self.project(pooled)
        each = value.transpose(1, 2).flatten(2)  # (n, L, W): what the pool would be, were this token the only one
        return self.project(pooled), self.project(each)
