"""PointTransformer: patches of a cloud as the tokens of a transformer."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from align.encoders.base import Encoder
from align.encoders.clouds.between import interpolate
from align.encoders.clouds.groups import take
from align.encoders.clouds.near import neighbours
from align.encoders.clouds.sampling import farthest_points
from align.encoders.transformer import Block, run_blocks
from align.values import Features


@final
class PointTransformer(Encoder):
    """A transformer over patches: (n, P, channels) xyz, or xyz and rgb -> features with one token a patch (Yu et al.
    2022, Point-BERT, arXiv:2111.14819, section 3.1, as in ULIP, arXiv:2212.05171, with layer in place of batch
    normalisation).

    Farthest point sampling gives the centres. A small PointNet reads the nearest points of each, relative to it. The
    centre's place goes through an MLP and is the token's position. Pre-LN blocks follow. Pooled are the class token
    and, beside it, the maximum of the tokens.

    groups: patches of a cloud. neighbours: points of a patch. Both are cut to P where the cloud is smaller.
    patch_width: width inside the patch's PointNet.
    checkpointing: train with fewer activations in memory, as ``run_blocks`` says.
    """

    def __init__(
        self,
        channels: int = 6,
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        groups: int = 64,
        neighbours: int = 32,
        patch_width: int = 128,
        dropout: float = 0.0,
        checkpointing: bool = False,
    ):
        super().__init__()
        if min(groups, neighbours, depth) < 1:
            raise ValueError(f"groups, neighbours and depth are at least 1, not {groups}, {neighbours}, {depth}")
        self.channels, self.width, self.depth, self.heads = channels, width, depth, heads
        self.groups, self.neighbours, self.patch_width, self.dropout = groups, neighbours, patch_width, dropout
        self.checkpointing = checkpointing
        self.patch = _PatchNet(channels, patch_width, width)
        self.place = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, width))
        self.start = nn.Parameter(torch.randn(width) * 0.02)  # the class token and its position
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.pool = nn.Linear(2 * width, width)

    def encode(self, values: Tensor) -> Features:
        if values.ndim != 3 or values.shape[2] != self.channels or not values.shape[1]:
            raise ValueError(f"PointTransformer takes (n, P, {self.channels}), P >= 1, got {tuple(values.shape)}")
        n, P = values.shape[:2]
        xyz = values[..., :3]
        centres = self._centres(xyz)  # (n, G, 3)
        near = neighbours(centres, xyz, min(self.neighbours, P))  # (n, G, K)
        points = take(values, near)  # (n, G, K, channels)
        points = torch.cat([points[..., :3] - centres[:, :, None], points[..., 3:]], -1)
        x = self.patch(points) + self.place(centres)  # (n, G, W)
        x = torch.cat([self.start.expand(n, 1, -1), x], 1)
        x = run_blocks(self.blocks, x, checkpointing=self.checkpointing)
        x = self.norm(x)
        tokens = x[:, 1:]
        return Features(self.pool(torch.cat([x[:, 0], tokens.amax(1)], -1)), tokens)

    def at_points(self, values: Tensor, tokens: Tensor | None) -> Tensor | None:
        """Return each point's features, from the tokens of its three nearest centres (``interpolate``)."""
        if tokens is None:
            return None
        xyz = values[..., :3]
        return interpolate(xyz, self._centres(xyz), tokens)

    def _centres(self, xyz: Tensor) -> Tensor:
        """Return the patches' centres (n, G, 3) of clouds (n, P, 3)."""
        return take(xyz, farthest_points(xyz, min(self.groups, xyz.shape[1])))


@final
class _PatchNet(nn.Module):
    """A PointNet of patches: (n, G, K, channels) -> (n, G, width), every point beside the patch's maximum, twice
    (Point-BERT, equation 1)."""

    def __init__(self, channels: int, hidden: int, width: int):
        super().__init__()
        self.first = nn.Sequential(
            nn.Linear(channels, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, 2 * hidden)
        )
        self.second = nn.Sequential(
            nn.Linear(4 * hidden, 2 * hidden), nn.LayerNorm(2 * hidden), nn.GELU(), nn.Linear(2 * hidden, width)
        )

    def forward(self, points: Tensor) -> Tensor:
        x = self.first(points)  # (n, G, K, 2 hidden)
        x = torch.cat([x.amax(2, keepdim=True).expand_as(x), x], -1)
        return self.second(x).amax(2)
