"""The pre-LN transformer block that TransformerText, PointTransformer, PointBERT and Series share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@final
class Block(nn.Module):
    """A block: x + attention(norm(x)), then x + mlp(norm(x)) (Xiong et al. 2020, arXiv:2002.04745, figure 1b).

    heads: a divisor of ``width``. hidden: width inside the MLP, by default four times as wide. bias: add one to
    queries, keys and values.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0, hidden: int | None = None, bias: bool = True):
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"heads must divide width; {width} is no multiple of {heads}")
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width)
        hidden = 4 * width if hidden is None else hidden
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the output for x, (n, L, W). mask: (n, L) bool, true where a token is seen, at least one a row."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (n, h, L, W / h)
        seen = None if mask is None else mask[:, None, None]  # (n, 1, 1, L)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=dropout)
        x = x + self._drop(self.out(y.transpose(1, 2).flatten(2)))
        return x + self._drop(self.down(F.gelu(self.up(self.norm2(x)))))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


def run_blocks(
    blocks: Iterable[nn.Module], x: Tensor, mask: Tensor | None = None, checkpointing: bool = False
) -> Tensor:
    """Return the output of blocks, one after the other.

    checkpointing: keep the input of each block alone, and compute the block again for its gradient (Chen et al. 2016,
        arXiv:1604.06174, section 4.1), with the same dropout. Each block runs forward twice, and gradients are equal to
        the bit.
    """
    checkpointing = checkpointing and torch.is_grad_enabled() and not torch.compiler.is_exporting()
    for block in blocks:
        if checkpointing:
            x = checkpoint(block, x, mask, use_reentrant=False, preserve_rng_state=True)
        else:
            x = block(x, mask)
    return x
