"""Farthest point sampling of point clouds: exact, in torch alone."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def farthest_points(xyz: Tensor, count: int, start: int | None = None, skip_origin: bool = False) -> Tensor:
    """Return the indices (n, count) of points of clouds (n, P, 3) that are far from each other (Eldar et al. 1997, "The
    farthest point strategy").

    start: index of the first point, by default the point farthest from the cloud's mean. Ties go to the lower index. It
    takes n · P · count steps. Where count is above the number of distinct points, points come again.
    skip_origin: never choose a point with |x|² ≤ 1e-3, but for the first, as the kernel of PointNet++ for CUDA does.
    """
    n = xyz.shape[0]
    planes = xyz.detach().to(torch.promote_types(xyz.dtype, torch.float32)).permute(2, 0, 1).contiguous()  # (3, n, P)
    rows = torch.arange(n, device=xyz.device)
    if start is None:
        current = (planes - planes.mean(2, keepdim=True)).square_().sum(0).argmax(1)
    else:
        current = torch.full((n,), start, device=xyz.device)
    nearest = torch.full_like(planes[0], torch.inf)  # squared distance of each point to the nearest one chosen
    if skip_origin:
        nearest[planes.square().sum(0) <= 1e-3] = -1
    chosen = torch.empty(n, count, dtype=torch.long, device=xyz.device)
    for i in range(count):
        chosen[:, i] = current
        distance = (planes - planes[:, rows, current, None]).square_().sum(0)
        current = torch.minimum(nearest, distance, out=nearest).argmax(1)
    return chosen
