"""Uni3D: groups of a cloud's points as the tokens of a vision transformer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from align.encoders.base import Encoder
from align.encoders.clouds.between import interpolate
from align.encoders.clouds.groups import take
from align.encoders.clouds.near import neighbours
from align.encoders.clouds.sampling import farthest_points
from align.encoders.point_patches import PatchNet
from align.values import Features

Kind = Literal["eva", "eva02", "eva02-norm"]
_KINDS: dict[str, dict[str, Any]] = {  # arguments of timm's block
    "eva": {},  # GELU (Fang et al. 2022, arXiv:2211.07636)
    "eva02": {"swiglu_mlp": True},  # SwiGLU in one matrix (Fang et al. 2023, arXiv:2303.11331)
    "eva02-norm": {"swiglu_mlp": True, "scale_mlp": True, "qkv_fused": False},  # SwiGLU in two, with a norm inside
}


@final
class Uni3D(Encoder):
    """Uni3D's point tower: (n, P, 6) xyz and rgb -> features with one token a group (Zhou et al. 2023, Uni3D,
    arXiv:2310.06773, section 3.1).

    Farthest point sampling from point 0 gives the centres. A small PointNet reads the points nearest to each, relative
    to it, with their colours. A centre's place goes through an MLP and is the token's position. The blocks are timm's
    EVA blocks without rotary positions, with layer norms of epsilon 1e-6. The pooled features are the class token's,
    and the tokens are the groups', after the last norm and the projection. They are not unit vectors.

    No centre is at |x|² ≤ 1e-3, but for point 0, because the weights were trained with a kernel that skips these
    points. The nearest points are exact: near the edge of a group the reference's expansion of the distance may take
    another point. The PointNet's batch normalisation keeps its statistics in training. Patches are never dropped.

    width: of the features. kind: of the blocks, "eva" for size g, "eva02-norm" for b and l, "eva02" for s and ti.
    block_width, depth, heads, hidden: of the blocks. hidden: width inside their MLP.
    groups: of a cloud. neighbours: points of a group. Both are cut to P where the cloud is smaller.
    patch_widths: outputs of the four layers of the PointNet.
    checkpointing: keep the input of each block alone in training, and compute the block again for its gradient.
    """

    def __init__(
        self,
        width: int = 1024,
        kind: Kind = "eva02",
        block_width: int = 192,
        depth: int = 12,
        heads: int = 3,
        hidden: int = 512,
        groups: int = 512,
        neighbours: int = 64,
        patch_widths: Sequence[int] = (128, 256, 512, 512),
        checkpointing: bool = False,
    ):
        from timm.models.eva import EvaBlock

        super().__init__()
        if kind not in _KINDS:
            raise ValueError(f"kind is one of {', '.join(_KINDS)}, not {kind!r}")
        if heads < 1 or block_width % heads:
            raise ValueError(f"heads must divide block_width; {block_width} is no multiple of {heads}")
        if min(groups, neighbours, depth) < 1:
            raise ValueError(f"groups, neighbours and depth are at least 1, not {groups}, {neighbours}, {depth}")
        if len(patch_widths) != 4:
            raise ValueError(f"patch_widths are four numbers, not {len(patch_widths)}")
        self.width, self.kind, self.block_width, self.depth, self.heads = width, kind, block_width, depth, heads
        self.hidden, self.groups, self.neighbours, self.patch_widths = hidden, groups, neighbours, list(patch_widths)
        self.checkpointing = checkpointing
        self.patch = PatchNet(6, *self.patch_widths)
        self.widen = nn.Linear(self.patch_widths[-1], block_width)
        self.place = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, block_width))
        self.start = nn.Parameter(torch.randn(block_width) * 0.02)
        self.start_place = nn.Parameter(torch.randn(block_width) * 0.02)
        ratio = (hidden + 0.5) / block_width  # timm rounds down
        block = partial(EvaBlock, block_width, heads, mlp_ratio=ratio, norm_layer=partial(nn.LayerNorm, eps=1e-6))
        self.blocks = nn.ModuleList(block(**_KINDS[kind]) for _ in range(depth))
        self.norm = nn.LayerNorm(block_width, eps=1e-6)
        self.project = nn.Linear(block_width, width)

    def wants(self) -> dict[str, Any]:
        return {"class_path": "align.preprocess.Points", "init_args": {"preset": "uni3d"}}

    def encode(self, values: Tensor) -> Features:
        if values.ndim != 3 or values.shape[2] != 6 or not values.shape[1]:
            raise ValueError(f"Uni3D takes (n, P, 6), P >= 1, got {tuple(values.shape)}")
        n, P = values.shape[:2]
        xyz = values[..., :3]
        centres = self._centres(xyz)
        points = take(values, neighbours(centres, xyz, min(self.neighbours, P)))  # (n, G, K, 6)
        points = torch.cat([points[..., :3] - centres[:, :, None], points[..., 3:]], -1)
        x = self.widen(self.patch(points)) + self.place(centres)  # (n, G, W)
        x = torch.cat([(self.start + self.start_place).expand(n, 1, -1), x], 1)
        x = self.project(self.norm(self._run(x)))  # (n, 1 + G, width)
        return Features(x[:, 0], x[:, 1:])

    def at_points(self, values: Tensor, tokens: Tensor | None) -> Tensor | None:
        """Return each point's features, from the tokens of its three nearest centres (``interpolate``)."""
        if tokens is None:
            return None
        xyz = values[..., :3]
        return interpolate(xyz, self._centres(xyz), tokens)

    def _centres(self, xyz: Tensor) -> Tensor:
        """Return the groups' centres (n, G, 3) of clouds (n, P, 3)."""
        return take(xyz, farthest_points(xyz, min(self.groups, xyz.shape[1]), start=0, skip_origin=True))

    def _run(self, x: Tensor) -> Tensor:
        from torch.utils.checkpoint import checkpoint

        again = self.checkpointing and torch.is_grad_enabled() and not torch.compiler.is_exporting()
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if again else block(x)
        return x
