"""Resampler: trained latents that attend over the tokens."""

from __future__ import annotations

from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.heads.tokens import read_tokens
from align.values import Features


@final
class Resampler(nn.Module):
    """Trained latents that attend over the tokens, in ``depth`` layers of cross-attention, and one matrix after them.

    It is the resampler of Flamingo (Alayrac et al. 2022, arXiv:2204.14198, section 2.1 and appendix A.1.1): the keys
    and values of a layer are those of the tokens and the latents together. The embedding is the mean over the latents.
    A padded token is never read. Without tokens, the pooled features are the only token.

    With ``tokens`` the head gives (n, latents, D), one row a latent, and all of them are real (``resamples``).

    heads: number of attention heads, a divisor of ``width``.
    """

    resamples: ClassVar[bool] = True

    def __init__(self, width: int, dim: int, latents: int = 16, depth: int = 2, heads: int = 4):
        super().__init__()
        for name, value in (("latents", latents), ("depth", depth)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if heads < 1 or width % heads:
            raise ValueError(f"heads must divide width; {width} is no multiple of {heads}")
        self.width, self.dim = width, dim
        self.latents, self.depth, self.heads = latents, depth, heads
        self.begin = nn.Parameter(torch.randn(latents, width) * width**-0.5)
        self.layers = nn.ModuleList([_CrossLayer(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, dim, bias=False)
        nn.init.normal_(self.project.weight, std=width**-0.5)

    def forward(self, features: Features, tokens: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        given = features.pooled[:, None] if features.tokens is None else features.tokens  # (n, L, W)
        if tokens:
            read_tokens(features)
        mask = None
        if features.tokens is not None and features.mask is not None:
            given = given.masked_fill(~features.mask[..., None], 0)  # a weight of zero does not remove NaN or infinity
            mask = F.pad(features.mask, (0, self.latents), value=True)[:, None, None]  # (n, 1, 1, L + latents)
        x = self.begin.expand(given.shape[0], -1, -1)  # (n, latents, W)
        for layer in self.layers:
            x = layer(x, given, mask)
        each = self.project(self.norm(x))  # (n, latents, D)
        return (each.mean(1), each) if tokens else each.mean(1)


class _CrossLayer(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_latents, self.norm_tokens, self.norm = (nn.LayerNorm(width) for _ in range(3))
        self.query, self.key_value = nn.Linear(width, width, bias=False), nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Return latents (n, latents, W). tokens: (n, L, W). mask: (n, 1, 1, L + latents), true for a real one."""
        latents = self.norm_latents(x)
        read = torch.cat([self.norm_tokens(tokens), latents], 1)  # (n, L + latents, W)
        q, k, v = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (n, heads, rows, W / heads)
            for y in (self.query(latents), *self.key_value(read).chunk(2, -1))
        )
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm(x))))
