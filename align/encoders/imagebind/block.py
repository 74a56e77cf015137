"""ImageBind's transformer block: pre-LN, with a learned key and value beside the tokens' in most towers."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-6
"""Epsilon of every layer norm but that of a stem."""


@final
class Block(nn.Module):
    """A block: x + attention(norm(x)), then x + mlp(norm(x)), with GELU and an MLP four times as wide.

    extra: each query also sees one learned key, whose value is learned too (``add_bias_kv`` of torch's attention). It
        is projected by nothing.
    """

    def __init__(self, width: int, heads: int, extra: bool):
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"heads must divide trunk_width; {width} is no multiple of {heads}")
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, EPS), nn.LayerNorm(width, EPS)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.extra_key = nn.Parameter(torch.empty(1, 1, width)) if extra else None
        self.extra_value = nn.Parameter(torch.empty(1, 1, width)) if extra else None
        for x in (self.extra_key, self.extra_value):
            if x is not None:
                nn.init.normal_(x, std=width**-0.5)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the output for x, (n, L, W). mask: (L, L) bool, true where a query (row) sees a key."""
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)  # (n, L, W) each
        q, k, v = (self._split(y) for y in (q, _append(k, self.extra_key), _append(v, self.extra_value)))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (n, h, L, W / h)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _append(x: Tensor, extra: Tensor | None) -> Tensor:
    """Return (n, L + 1, W), with the same last vector in every row, or x where there is none."""
    return x if extra is None else torch.cat([x, extra.to(x.dtype).expand(x.shape[0], -1, -1)], 1)
