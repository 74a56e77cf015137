"""PointNet2: PointNet++ in plain torch. Small PointNets run over balls of points, then over balls of balls."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from align.encoders.base import Encoder
from align.encoders.clouds.between import interpolate
from align.encoders.clouds.groups import take
from align.encoders.clouds.near import ball
from align.encoders.clouds.sampling import farthest_points
from align.values import Features


@final
class PointNet2(Encoder):
    """A PointNet++ with one scale a level: (n, P, channels) xyz, or xyz and rgb -> features with one token a group of
    the last level (Qi et al. 2017, arXiv:1706.02413, section 3.2, with layer in place of batch normalisation).

    A level samples centres, takes the points in a ball around each, and runs a PointNet over them. The centres are the
    next level's points. Points are given relative to their centre, in units of the radius (as in PointNeXt, Qian et al.
    2022, arXiv:2206.04670), since no batch normalisation scales them. The last MLP sees the last centres where they
    are, and its maximum is pooled. Colours are taken to lie in [0, 1].

    A crowded ball keeps its first points by index, as in the original, so the order of the points matters a little. A
    cloud of fewer points than groups has a group for each.

    groups, radius, neighbours, widths: of each level, its centres, the ball's radius in units of xyz, the points of a
    ball, and the widths of its MLP. The defaults are the paper's, for clouds in the unit ball.
    hidden: widths of the last MLP, before ``width``.
    """

    def __init__(
        self,
        width: int = 256,
        channels: int = 6,
        groups: Sequence[int] = (512, 128),
        radius: Sequence[float] = (0.2, 0.4),
        neighbours: Sequence[int] = (32, 64),
        widths: Sequence[Sequence[int]] = ((64, 64, 128), (128, 128, 256)),
        hidden: Sequence[int] = (256, 512),
    ):
        super().__init__()
        sizes = {len(x) for x in (groups, radius, neighbours, widths)}
        if sizes != {len(groups)} or not groups or not all(widths):
            raise ValueError(
                "groups, radius, neighbours and widths have one entry a level, and a level has widths; "
                f"got {groups}, {radius}, {neighbours}, {widths}"
            )
        if channels < 3 or min(*groups, *neighbours) < 1 or min(radius) <= 0:
            raise ValueError(
                "needs channels >= 3, groups and neighbours >= 1 and radius > 0; "
                f"got {channels}, {groups}, {neighbours}, {radius}"
            )
        self.width, self.channels, self.groups, self.radius = width, channels, groups, radius
        self.neighbours, self.widths, self.hidden = neighbours, widths, hidden
        levels, carried = [], channels - 3
        for level in zip(groups, radius, neighbours, widths, strict=True):
            levels.append(_Level(carried, *level))
            carried = level[-1][-1]
        self.levels = nn.ModuleList(levels)
        self.last = _mlp(3 + carried, *hidden, width)
        self.all = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def encode(self, values: Tensor) -> Features:
        if values.ndim != 3 or values.shape[2] != self.channels or not values.shape[1]:
            raise ValueError(f"PointNet2 takes (n, P, {self.channels}), P >= 1, got {tuple(values.shape)}")
        xyz, features = values[..., :3], (values[..., 3:] - 0.5) * 4
        for level in self.levels:
            xyz, features = level(xyz, features)
        tokens = self.last(torch.cat([xyz, features], -1))  # (n, G, W)
        return Features(self.all(tokens.amax(1)), tokens)

    def at_points(self, values: Tensor, tokens: Tensor | None) -> Tensor | None:
        """Return each point's features, from the tokens of its three nearest centres (``interpolate``)."""
        if tokens is None:
            return None
        xyz = centres = values[..., :3]
        level: Any
        for level in self.levels:
            centres = level.centres(centres)
        return interpolate(xyz, centres, tokens)


@final
class _Level(nn.Module):
    """A set abstraction: xyz (n, P, 3), features (n, P, C) -> those of G centres, (n, G, 3), (n, G, widths[-1])."""

    def __init__(self, channels: int, groups: int, radius: float, neighbours: int, widths: Sequence[int]):
        super().__init__()
        self.groups, self.radius, self.neighbours = groups, radius, neighbours
        self.each = _mlp(3 + channels, *widths)
        self.norm = nn.LayerNorm(widths[-1])

    def centres(self, xyz: Tensor) -> Tensor:
        """Return the level's centres (n, G, 3) of points (n, P, 3)."""
        return take(xyz, farthest_points(xyz, min(self.groups, xyz.shape[1])))

    def forward(self, xyz: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        centres = self.centres(xyz)
        near = ball(centres, xyz, self.radius, self.neighbours)  # (n, G, K)
        offsets = (take(xyz, near) - centres[:, :, None]) / self.radius
        found = self.each(torch.cat([offsets, take(features, near)], -1)).amax(2)  # (n, G, widths[-1])
        return centres, nn.functional.gelu(self.norm(found))


def _mlp(*sizes: int) -> nn.Sequential:
    """Return linear layers with normalisation and GELU between them, and none after the last."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.LayerNorm(b), nn.GELU()]
    return nn.Sequential(*layers[:-2])
