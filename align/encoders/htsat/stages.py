"""Stages of HTSAT: blocks of window attention, and the halving of the map between them."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from align.encoders.htsat.windows import WindowAttention


@final
class Block(nn.Module):
    """Window attention and a perceptron, each after a layer normalisation and added to the map (n, H, W, C)."""

    def __init__(self, width: int, heads: int, side: int, window: int, shift: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = WindowAttention(width, heads, side, window, shift)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


@final
class Merge(nn.Module):
    """Four neighbours become one cell of twice the width: (n, H, W, C) -> (n, H / 2, W / 2, 2 C).

    The trap: their order is that of Swin's code, down a column first: above left, below left, above right, below right.
    """

    def __init__(self, width: int):
        super().__init__()
        self.norm, self.reduce = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        cells = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # (n, H / 2, down, W / 2, right, C)
        return self.reduce(self.norm(cells.permute(0, 1, 3, 4, 2, 5).flatten(3)))


@final
class Stage(nn.Module):
    """Blocks on one map of ``side`` x ``side`` cells, every second one with moved windows, then ``merge`` or none.

    A map that is no larger than a window is one window, never moved.
    """

    def __init__(self, width: int, heads: int, depth: int, side: int, window: int, merge: bool, checkpointing: bool):
        super().__init__()
        window, shift = (side, 0) if side <= window else (window, window // 2)
        self.checkpointing = checkpointing
        self.blocks = nn.ModuleList(Block(width, heads, side, window, shift * (i % 2)) for i in range(depth))
        self.merge = Merge(width) if merge else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            again = self.checkpointing and self.training and torch.is_grad_enabled()
            x = checkpoint(block, x, use_reentrant=False) if again else block(x)
        return self.merge(x)
