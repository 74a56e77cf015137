"""Neighbours in point clouds: the nearest points, and the points of a ball, in torch alone."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def neighbours(centres: Tensor, xyz: Tensor, count: int, budget: int = 1 << 24) -> Tensor:
    """Return the indices (n, G, count) of the points of clouds (n, P, 3) nearest to each centre (n, G, 3).

    budget: the most distances held at a time, but at least those of one centre, whatever n and P are.
    """
    n, G, P = xyz.shape[0], centres.shape[1], xyz.shape[1]
    kind = torch.promote_types(xyz.dtype, torch.float32)
    centres, xyz = centres.detach().to(kind), xyz.detach().to(kind)
    if torch.compiler.is_compiling():  # a graph has no loop over a number of rows that it does not know
        return _nearest(centres, xyz, count)
    out = torch.empty(n, G, count, dtype=torch.long, device=xyz.device)
    rows = max(1, budget // (G * P))
    some = G if rows > 1 else max(1, budget // P)
    for i in range(0, n, rows):
        for g in range(0, G, some):
            out[i : i + rows, g : g + some] = _nearest(centres[i : i + rows, g : g + some], xyz[i : i + rows], count)
    return out


def _nearest(centres: Tensor, xyz: Tensor, count: int) -> Tensor:
    # without matrix products the distances are exact, and the same whatever clouds are beside a cloud
    distance = torch.cdist(centres, xyz, compute_mode="donot_use_mm_for_euclid_dist")
    return distance.topk(count, largest=False, sorted=False).indices


@torch.no_grad()
def ball(centres: Tensor, xyz: Tensor, radius: float, count: int) -> Tensor:
    """Return the indices (n, G, count) of the first points of clouds (n, P, 3), by index, within a radius of each
    centre (Qi et al. 2017, PointNet++, arXiv:1706.02413, section 3.2).

    Where a ball has fewer points its first one stands in the places that are left, and point 0 where it has none.
    """
    distance = torch.cdist(centres, xyz, compute_mode="donot_use_mm_for_euclid_dist")  # (n, G, P)
    P = xyz.shape[1]
    index = torch.arange(P, device=xyz.device).expand_as(distance).masked_fill(distance.square() >= radius**2, P)
    found = index.sort(-1).values[..., :count]
    first = found[..., :1].where(found[..., :1] < P, 0)
    return torch.where(found < P, found, first)
