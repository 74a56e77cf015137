"""Poolings of the frames of a video: means, attention, and a transformer with learned times.

Each maps (n, F, W) and a mask (n, F) or None to tokens (n, F, W) and pooled (n, W). Every row has at least one real
frame; one without any reads all of them, so that nothing divides by zero.
"""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.encoders.transformer import Block, run_blocks

Pooled = tuple[Tensor, Tensor]
"""tokens (n, F, W), pooled (n, W)."""


def real_frames(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return (n, F) bool, true for real frames, and for all frames of a row that has no real one."""
    if mask is None:
        return x.new_ones(x.shape[:2], dtype=torch.bool)
    return mask | ~mask.any(1, keepdim=True)


def masked_mean(x: Tensor, real: Tensor) -> Tensor:
    """Return (n, W), the mean of the real frames. A masked value counts for nothing, be it infinite."""
    return x.masked_fill(~real[..., None], 0).sum(1) / real.sum(1, keepdim=True).to(x.dtype)


@final
class MeanPool(nn.Module):
    """The mean of the frames, unit: of their unit vectors."""

    def __init__(self, unit: bool = False):
        super().__init__()
        self.unit = unit

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Pooled:
        x = F.normalize(x, dim=-1, eps=1e-6) if self.unit else x
        return x, masked_mean(x, real_frames(x, mask))


@final
class FrameAttention(nn.Module):
    """The frames weighted by softmax(w tanh(V norm(x))) (Ilse et al. 2018, arXiv:1802.04712, equation 8).

    w starts at 0, so training starts at the mean.
    """

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, width)
        self.weight = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(self.weight.weight)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Pooled:
        scores = self.weight(torch.tanh(self.hidden(self.norm(x))))[..., 0]  # (n, F)
        share = scores.masked_fill(~real_frames(x, mask), -torch.inf).softmax(-1).to(x.dtype)
        real = x if mask is None else x.masked_fill(~real_frames(x, mask)[..., None], 0)
        return x, (share[:, None] @ real)[:, 0]


@final
class FrameTransformer(nn.Module):
    """The mean of the frames after x + out(norm(blocks(x + position))), a position for the place of each frame.

    CLIP4Clip's sequential type (Luo et al. 2021, arXiv:2104.08860, section 3.3) with pre-norm blocks. ``out`` starts at
    0, so training starts at the mean.
    """

    def __init__(self, width: int, frames: int, depth: int, heads: int):
        super().__init__()
        self.frames = frames
        self.position = nn.Parameter(torch.randn(frames, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Pooled:
        if x.shape[1] > self.frames:
            raise ValueError(f"a video has {x.shape[1]} frames, pool 'times' has learned {self.frames}; give fewer")
        real = real_frames(x, mask)
        x = x.masked_fill(~real[..., None], 0)
        seen = None if mask is None else real
        x = x + self.out(self.norm(run_blocks(self.blocks, x + self.position[: x.shape[1]], seen)))
        return x, masked_mean(x, real)
