"""AttentionPool: a learned query that attends over the tokens."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.heads.tokens import read_tokens
from align.values import Features


@final
class AttentionPool(nn.Module):
    """A learned query that attends over the tokens, and one matrix after it (Lee et al. 2019, arXiv:1810.00825,
    equation 11, with one seed and no feed-forward). Without tokens, the pooled features are the only token.

    heads: number of attention heads, a divisor of ``width``.
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
            read_tokens(features)
        mask = None
        if features.tokens is not None and features.mask is not None:
            real = features.mask | ~features.mask.any(1, keepdim=True)  # a row without a real token reads all of them
            x = x.masked_fill(~real[..., None], 0)  # padding may be infinite, which no weight of 0 takes out
            mask = real[:, None, None]  # (n, 1, 1, L)
        parts = self.key_value(self.norm(x)).unflatten(-1, (2, self.heads, -1))  # (n, L, 2, heads, W / heads)
        key, value = parts.permute(2, 0, 3, 1, 4)
        query = self.query.view(1, self.heads, 1, -1).expand(x.shape[0], -1, -1, -1)
        pooled = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)[:, :, 0].flatten(1)  # (n, W)
        if not tokens:
            return self.project(pooled)
        each = value.transpose(1, 2).flatten(2)  # (n, L, W): the pool of each token alone
        return self.project(pooled), self.project(each)
