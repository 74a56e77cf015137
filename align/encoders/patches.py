"""Patches of point clouds: farthest point sampling and nearest neighbours, in torch alone."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def farthest_points(xyz: Tensor, count: int) -> Tensor:
    """Return the indices (n, count) of points of clouds (n, P, 3) that are far from each other (Eldar et al. 1997, "The
    farthest point strategy").

    It is deterministic: the first is the point farthest from the cloud's mean, and ties go to the lower index. It takes
    n · P · count steps. Where count is above the number of distinct points, points come again.
    """
    n = xyz.shape[0]
    planes = xyz.detach().to(torch.promote_types(xyz.dtype, torch.float32)).permute(2, 0, 1).contiguous()  # (3, n, P)
    rows = torch.arange(n, device=xyz.device)
    to_mean = (planes - planes.mean(2, keepdim=True)).square_().sum(0)  # (n, P)
    current = to_mean.argmax(1)
    nearest = torch.full_like(to_mean, torch.inf)  # squared distance of each point to the nearest one chosen
    chosen = torch.empty(n, count, dtype=torch.long, device=xyz.device)
    for i in range(count):
        chosen[:, i] = current
        distance = (planes - planes[:, rows, current, None]).square_().sum(0)
        current = torch.minimum(nearest, distance, out=nearest).argmax(1)
    return chosen


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
