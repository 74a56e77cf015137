"""Attention inside square windows of a map, with a learned bias for each relative position (Liu et al. 2021)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

APART = -100.0  # added to the score of two cells that are no neighbours in the map


@final
class WindowAttention(nn.Module):
    """Self-attention of the cells of each window: (n, H, W, C) -> the same (Swin, arXiv:2103.14030, equation 4).

    shift: the map is moved up and left by so many cells before it is cut, and back afterwards. A window that holds
    cells from opposite edges then keeps them apart.
    """

    index: Tensor
    mask: Tensor | None

    def __init__(self, width: int, heads: int, side: int, window: int, shift: int):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.table, std=0.02)
        self.register_buffer("index", relative_index(window), persistent=False)
        self.register_buffer("mask", edge_mask(side, window, shift) if shift else None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        side, back = (-self.shift, -self.shift), (self.shift, self.shift)
        windows = cut(x.roll(side, (1, 2)) if self.shift else x, self.window)  # (n, windows, L, C)
        q, k, v = self.qkv(windows).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)
        bias = self.table[self.index].permute(2, 0, 1)  # (heads, L, L)
        if self.mask is not None:
            bias = bias + self.mask[:, None]  # (windows, heads, L, L)
        if torch.compiler.is_exporting():  # ONNX's attention has one axis before the heads'
            bias = bias.expand(*q.shape[:3], *bias.shape[-2:])
            q1, k1, v1, bias1 = (y.flatten(0, 1) for y in (q, k, v, bias.to(q.dtype)))
            mixed = scaled_dot_product_attention(q1, k1, v1, bias1)
            mixed = mixed.clone(memory_format=torch.contiguous_format)
            mixed = mixed.unflatten(0, (-1, q.shape[1]))
        else:
            mixed = scaled_dot_product_attention(q, k, v, bias.to(q.dtype))  # (n, windows, heads, L, C / heads)
        x = join(self.out(mixed.transpose(2, 3).flatten(3)), self.window, x.shape[1])
        return x.roll(back, (1, 2)) if self.shift else x


def cut(x: Tensor, window: int) -> Tensor:
    """Return (n, windows, window², C) of a map (n, H, W, C)."""
    x = x.unflatten(2, (-1, window)).unflatten(1, (-1, window))  # (n, rows, window, columns, window, C)
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def join(x: Tensor, window: int, side: int) -> Tensor:
    """Return the map (n, side, side, C) of its windows."""
    x = x.unflatten(2, (window, window)).unflatten(1, (side // window, -1))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def relative_index(window: int) -> Tensor:
    """Return (window², window²) int64, the row of the table for a cell and one that it attends to."""
    at = torch.arange(window)
    rows, columns = at.repeat_interleave(window), at.repeat(window)
    down, right = rows[:, None] - rows, columns[:, None] - columns  # from -(window - 1) to window - 1
    return (down + window - 1) * (2 * window - 1) + right + window - 1


def edge_mask(side: int, window: int, shift: int) -> Tensor:
    """Return (windows, window², window²): 0 for cells of one part of the moved map, APART for others.

    The move leaves three parts on each axis: the whole windows, and two in the last one, from both edges of the map.
    """
    at = torch.arange(side)
    part = (at >= side - window).long() + (at >= side - shift)
    parts = cut((3 * part[:, None] + part)[None, ..., None], window)[0, ..., 0]  # (windows, window²)
    return (parts[:, :, None] != parts[:, None]) * APART
