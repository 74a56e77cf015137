"""Groups of a cloud as tokens, in the two published ways that PointBERT has."""

from __future__ import annotations

from itertools import pairwise
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.encoders.clouds.groups import take
from align.encoders.clouds.near import ball, neighbours
from align.encoders.clouds.sampling import farthest_points


@final
class BallPatches(nn.Module):
    """OpenShape's groups, the set abstraction of PointNet++: (n, P, channels) -> tokens (n, G, width), and no places
    (Qi et al. 2017, arXiv:1706.02413, section 3.2).

    Each of G centres takes the first points, by index, within a radius. A point is its offset from the centre, its
    place and its colour. The maximum over three layers, beside the centre, becomes the token.
    """

    def __init__(self, channels: int, patch_width: int, width: int, groups: int, neighbours: int, radius: float):
        super().__init__()
        self.groups, self.neighbours, self.radius = groups, neighbours, radius
        sizes = (3 + channels, 64, 64, patch_width)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(nn.BatchNorm1d(size) for size in sizes[1:])
        self.lift = nn.Linear(3 + patch_width, width)
        self.norm = nn.LayerNorm(width)

    def group(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the centres (n, G, 3) and the points (n, G, K, 3 + channels) of groups."""
        xyz = values[..., :3]
        centres = take(xyz, farthest_points(xyz, self.groups, start=0))
        points = take(values, ball(centres, xyz, self.radius, self.neighbours))
        return centres, torch.cat([points[..., :3] - centres[:, :, None], points], -1)

    def forward(self, centres: Tensor, x: Tensor) -> tuple[Tensor, None]:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.relu(_over_points(norm, layer(x)))
        x = torch.cat([centres, x.amax(2)], -1)  # (n, G, 3 + patch_width)
        return self.norm(self.lift(x)), None


@final
class NearPatches(nn.Module):
    """ULIP-2's groups, as in Point-BERT: (n, P, channels) -> tokens (n, G, width), and the places (n, G, width) that
    are added to them (Yu et al. 2022, arXiv:2111.14819, section 3.1).

    Each of G centres takes the points nearest to it. A point is its offset from the centre and its colour. A
    ``PatchNet`` reads a group. An MLP makes a place of the centre.
    """

    def __init__(self, channels: int, patch_width: int, width: int, groups: int, neighbours: int):
        super().__init__()
        self.groups, self.neighbours = groups, neighbours
        self.net = PatchNet(channels, 128, 256, 512, patch_width)
        self.lift = nn.Linear(patch_width, width)
        self.place = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, width))

    def group(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the centres (n, G, 3) and the points (n, G, K, channels) of groups."""
        xyz = values[..., :3]
        centres = take(xyz, farthest_points(xyz, self.groups, start=0, skip_origin=True))
        points = take(values, neighbours(centres, xyz, self.neighbours))
        return centres, torch.cat([points[..., :3] - centres[:, :, None], points[..., 3:]], -1)

    def forward(self, centres: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.lift(self.net(x)), self.place(centres)


@final
class PatchNet(nn.Module):
    """The PointNet of Point-BERT's groups, which Uni3D has too: (n, G, K, channels) -> (n, G, d).

    After two layers every point stands beside the maximum of its group (Yu et al. 2022, arXiv:2111.14819, section 3.1).

    a, b, c, d: outputs of its four layers.
    """

    def __init__(self, channels: int, a: int, b: int, c: int, d: int):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(channels, a), nn.BatchNorm1d(a), nn.ReLU(), nn.Linear(a, b))
        self.second = nn.Sequential(nn.Linear(2 * b, c), nn.BatchNorm1d(c), nn.ReLU(), nn.Linear(c, d))

    def forward(self, points: Tensor) -> Tensor:
        n, G, K, _ = points.shape
        x = self.first(points.flatten(0, 2)).view(n * G, K, -1)  # batch normalisation takes rows
        x = torch.cat([x.amax(1, keepdim=True).expand_as(x), x], -1)
        return self.second(x.flatten(0, 1)).view(n, G, K, -1).amax(2)


def _over_points(norm: nn.Module, x: Tensor) -> Tensor:
    """Return batch normalisation of (…, C) over its last dimension."""
    return norm(x.flatten(0, -2)).view_as(x)
