"""Features between the centres of a cloud's groups: at each point, a mean of those of the nearest centres."""

from __future__ import annotations

import torch
from torch import Tensor

from align.encoders.clouds.groups import take
from align.encoders.clouds.near import neighbours

NEAREST = 3
"""Centres that a point's features come from, the paper's number."""


def interpolate(xyz: Tensor, centres: Tensor, features: Tensor) -> Tensor:
    """Return features (n, P, W) at points (n, P, 3), from those (n, G, W) at centres (n, G, 3).

    The mean of the three nearest centres' features, with weights 1 / squared distance (Qi et al. 2017, PointNet++,
    arXiv:1706.02413, equation 2, with p = 2 and k = 3). A point on a centre has its features.
    """
    near = neighbours(xyz, centres, min(NEAREST, centres.shape[1]))  # (n, P, k)
    squares = (take(centres, near) - xyz[:, :, None]).square().sum(-1)  # (n, P, k)
    weights = 1 / squares.clamp(min=torch.finfo(squares.dtype).tiny ** 0.5)
    weights = weights / weights.sum(-1, keepdim=True)
    return (take(features, near) * weights[..., None]).sum(2)
