"""Latent attention: each token asks a learned dictionary, and the answers replace the tokens before pooling."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LatentAttention(nn.Module):
    """The pooling layer of NV-Embed (Lee et al. 2024, arXiv:2405.17428, section 3.1 and equations 1 and 2).

    The tokens Q attend to r trained latents K = V, and a feed-forward layer with a gated GELU follows. Both have
    residuals. Names of parameters are NV-Embed's.

    width: of tokens and latents. latents: r. heads, head_width: of the attention.
    """

    def __init__(self, width: int, latents: int = 512, heads: int = 8, head_width: int = 4096):
        super().__init__()
        self.latents = nn.Parameter(torch.randn(latents, width))
        self.cross_attend_blocks = nn.ModuleList(
            [_Normed(_Attention(width, heads, head_width), width, context=True), _Normed(_GatedMLP(width), width)]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens (n, L, W) for tokens (n, L, W). No token depends on another."""
        attend, mix = self.cross_attend_blocks
        x = attend(x, self.latents.expand(len(x), -1, -1)) + x
        return mix(x) + x


class _Normed(nn.Module):
    def __init__(self, fn: nn.Module, width: int, context: bool = False):
        super().__init__()
        self.fn = fn
        self.norm = nn.LayerNorm(width)
        self.norm_context = nn.LayerNorm(width) if context else None

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        if self.norm_context is None:
            return self.fn(self.norm(x))
        return self.fn(self.norm(x), self.norm_context(context))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, head_width: int):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, heads * head_width, bias=False)
        self.to_kv = nn.Linear(width, 2 * heads * head_width, bias=False)
        self.to_out = nn.Linear(heads * head_width, width, bias=False)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q, k, v = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (n, heads, L or r, head_width)
            for y in (self.to_q(x), *self.to_kv(context).chunk(2, -1))
        )
        return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class _GatedMLP(nn.Module):
    def __init__(self, width: int, factor: int = 4):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, 2 * factor * width), _GatedGELU(), nn.Linear(factor * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class _GatedGELU(nn.Module):
    """Half of the channels times the GELU of the others (Shazeer 2020, arXiv:2002.05202, equation 6)."""

    def forward(self, x: Tensor) -> Tensor:
        x, gate = x.chunk(2, -1)
        return x * F.gelu(gate)
