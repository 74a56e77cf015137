"""PointBERT: the point towers of OpenShape and ULIP-2."""

from __future__ import annotations

from typing import Any, Literal, Self, final

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from align.encoders.base import Encoder, freeze_batch_norm
from align.encoders.clouds.between import interpolate
from align.encoders.point_patches import BallPatches, NearPatches
from align.encoders.transformer import Block, run_blocks
from align.values import Features

KINDS = ("openshape", "ulip2")


@final
class PointBERT(Encoder):
    """A transformer over groups of points, as OpenShape and ULIP-2 published it: (n, P, channels) xyz, or xyz and rgb
    -> features, with one token a group (Liu et al. 2023, arXiv:2305.10764, and Xue et al. 2023, arXiv:2305.08275).

    Farthest point sampling from point 0 gives the centres of groups, whose tokens follow a class token through pre-LN
    blocks without biases of queries, keys and values. Batch normalisation inside the groups keeps its statistics in
    training. ``PointTransformer`` is the same idea without it, for training from nothing.

    - "openshape": a group is the first points, by index, within a radius, so the order of the points counts. Pooled is
      the class token, without a last norm. The original starts sampling at a random point, so its vectors differ from
      call to call.
    - "ulip2": a group is the points nearest to its centre. No centre is at |x|² ≤ 1e-3, but for point 0, as the kernel
      has it that the weights were trained with. The centres' places are added before every block. Pooled are the class
      token and, beside it, the maximum of the tokens, after a last norm: 2 x block_width. A token is the class
      token beside that group's. The original drops paths in training, up to .1. Here nothing is dropped.

    Both originals find distances as |a|² + |b|² - 2 a·b, whose rounding moves single points in or out at the edge of a
    group. Here distances are exact. A cloud of fewer points than groups has centres twice.

    Args:
        kind: "openshape" or "ulip2".
        channels: 6, or 3 without colour.
        block_width, depth, heads, hidden: of the blocks. hidden: width inside their MLP.
        patch_width: width of a group before it becomes a token.
        groups: of a cloud. neighbours: points of a group.
        radius: of a group's ball, for "openshape". "ulip2" has none.
        preprocess: arguments of ``Points`` beside the preset of this kind.
        checkpointing: train with fewer activations in memory, as ``run_blocks`` says. The groups' layers run twice too.
    """

    def __init__(
        self,
        kind: Literal["openshape", "ulip2"] = "ulip2",
        channels: int = 6,
        block_width: int = 384,
        depth: int = 18,
        heads: int = 6,
        hidden: int = 1536,
        patch_width: int = 256,
        groups: int = 512,
        neighbours: int = 32,
        radius: float = 0.2,
        preprocess: dict[str, Any] | None = None,
        checkpointing: bool = False,
    ):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
        if channels not in (3, 6):
            raise ValueError(f"channels are 3, xyz, or 6, xyz and rgb, not {channels}")
        if min(groups, neighbours, depth) < 1:
            raise ValueError(f"groups, neighbours and depth are at least 1, not {groups}, {neighbours}, {depth}")
        self.kind, self.channels = kind, channels
        self.block_width, self.depth, self.heads, self.hidden = block_width, depth, heads, hidden
        self.patch_width, self.groups, self.neighbours, self.radius = patch_width, groups, neighbours, radius
        self.preprocess, self.checkpointing = preprocess, checkpointing
        sizes = channels, patch_width, block_width, groups, neighbours
        self.start = nn.Parameter(torch.randn(block_width) * 0.02)  # the class token
        self.blocks = nn.ModuleList(Block(block_width, heads, hidden=hidden, bias=False) for _ in range(depth))
        if kind == "openshape":
            self.width = block_width
            self.patches = BallPatches(*sizes, radius)
        else:
            self.width = 2 * block_width
            self.patches = NearPatches(*sizes)
            self.start_place = nn.Parameter(torch.randn(block_width) * 0.02)
            self.norm = nn.LayerNorm(block_width)
        super().train(self.training)  # batch normalisation is in evaluation from the start

    def wants(self) -> dict[str, Any]:
        color = {} if self.channels == 6 else {"color": False}
        init_args = {"preset": self.kind, **color, **(self.preprocess or {})}
        return {"class_path": "align.preprocess.Points", "init_args": init_args}

    def train(self, mode: bool = True) -> Self:
        begins = mode and not self.training
        super().train(mode)
        if begins and self.origin is not None:
            freeze_batch_norm(self, self.origin.source)
        return self

    def encode(self, values: Tensor) -> Features:
        if values.ndim != 3 or values.shape[2] != self.channels or not values.shape[1]:
            raise ValueError(f"PointBERT takes (n, P, {self.channels}), P >= 1, got {tuple(values.shape)}")
        centres, points = self.patches.group(values)
        if self.checkpointing and torch.is_grad_enabled() and not torch.compiler.is_exporting():
            x, places = checkpoint(self.patches, centres, points, use_reentrant=False)
        else:
            x, places = self.patches(centres, points)  # (n, G, block_width)
        x = self._begin(self.start, x)  # (n, 1 + G, block_width)
        if places is None:
            x = run_blocks(self.blocks, x, checkpointing=self.checkpointing)
            return Features(x[:, 0], x[:, 1:])
        places = self._begin(self.start_place, places)
        for block in self.blocks:
            x = run_blocks([block], x + places, checkpointing=self.checkpointing)
        x = self.norm(x)
        first, tokens = x[:, 0], x[:, 1:]
        each = torch.cat([first[:, None].expand_as(tokens), tokens], -1)  # (n, G, 2 x block_width)
        return Features(torch.cat([first, tokens.amax(1)], -1), each)

    def at_points(self, values: Tensor, tokens: Tensor | None) -> Tensor | None:
        """Return each point's features, from the tokens of its three nearest centres (``interpolate``)."""
        if tokens is None:
            return None
        return interpolate(values[..., :3], self.patches.group(values)[0], tokens)

    @staticmethod
    def _begin(first: Tensor, rest: Tensor) -> Tensor:
        """Return (n, 1 + G, W), one vector (W) before the rest (n, G, W) of each row."""
        return torch.cat([first.to(rest.dtype).expand(rest.shape[0], 1, -1), rest], 1)
