"""Neighbours in point clouds: the nearest points, and the points of a ball, in torch alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


@torch.no_grad()
def neighbours(centres: Tensor, xyz: Tensor, count: int, budget: int | None = None, ordered: bool = False) -> Tensor:
    """Return the indices (n, G, count) of the points of clouds (n, P, 3) nearest to each centre (n, G, 3).

    Distances are exact: sums of squared differences, in float32 at least. Of points as far as the last any may come.

    budget: the most distances held at a time, but at least those of one centre, whatever n and P are. By default as
    many as are fast on the device.
    ordered: nearest first. Otherwise the order is arbitrary, which a maximum over the neighbours does not see.

    Raises ValueError where the clouds have fewer points than count.
    """
    if count > xyz.shape[1]:
        raise ValueError(f"clouds of {xyz.shape[1]} points have no {count} neighbours")

    def nearest(squares: Tensor) -> Tensor:
        return squares.topk(count, largest=False, sorted=ordered).indices

    return _find(nearest, centres, xyz, count, budget)


@torch.no_grad()
def ball(centres: Tensor, xyz: Tensor, radius: float, count: int, budget: int | None = None) -> Tensor:
    """Return the indices (n, G, count) of the first points of clouds (n, P, 3), by index, nearer to each centre
    (n, G, 3) than radius (Qi et al. 2017, PointNet++, arXiv:1706.02413, section 3.2).

    Where a ball has fewer points its first one stands in the places that are left, and point 0 where it has none. That
    is the CUDA kernel of pointnet2_ops: |x - c|² < r², with r squared in the clouds' type. OpenShape's own query, in
    torch, differs at the edge alone. It takes |x - c|² ≤ r², from |x|² + |c|² - 2 x·c, whose rounding moves
    points near the edge, and it has an index out of range for a ball without points, which its centres, points of the
    cloud, never have.

    budget: as of ``neighbours``.
    """
    places = torch.arange(1, count + 1, dtype=torch.int32, device=xyz.device)

    def first(squares: Tensor) -> Tensor:
        inside = squares < squares.new_full((), radius).square()
        number = inside.cumsum(-1, dtype=torch.int32)  # of points inside, up to each point
        if torch.compiler.is_exporting():  # ONNX has no search
            found = (number[..., None, :] < places[:, None]).sum(-1)  # (n, G, count)
        else:
            found = torch.searchsorted(number, places.expand(*number.shape[:-1], count).contiguous())
        found = found.where(found < number.shape[-1], found[..., :1])
        return found.where(found < number.shape[-1], 0)

    return _find(first, centres, xyz, count, budget)


def _find(choose: Callable[[Tensor], Tensor], centres: Tensor, xyz: Tensor, count: int, budget: int | None) -> Tensor:
    """Return (n, G, count), ``choose`` of the squared distances (n, G, P), of which budget are held at a time."""
    n, G, P = xyz.shape[0], centres.shape[1], xyz.shape[1]
    kind = torch.promote_types(xyz.dtype, torch.float32)
    centres, planes = centres.detach().to(kind), xyz.detach().to(kind).transpose(1, 2).contiguous()  # (n, 3, P)
    if torch.compiler.is_compiling():  # a graph has no loop over a number of rows that it does not know
        return choose(_squares(centres, planes))
    if budget is None:
        budget = 1 << 17 if xyz.is_cpu else 1 << 24  # so many fit a CPU's cache
    out = torch.empty(n, G, count, dtype=torch.long, device=xyz.device)
    rows = max(1, budget // max(1, G * P))
    some = G if rows > 1 else max(1, budget // max(1, P))
    for i in range(0, n, rows):
        for g in range(0, G, some):
            squares = _squares(centres[i : i + rows, g : g + some], planes[i : i + rows])
            out[i : i + rows, g : g + some] = choose(squares)
    return out


def _squares(centres: Tensor, planes: Tensor) -> Tensor:
    """Return squared distances (n, G, P) of centres (n, G, 3) and clouds (n, 3, P)."""
    total = (centres[..., 0, None] - planes[:, None, 0]).square_()
    for d in (1, 2):
        total += (centres[..., d, None] - planes[:, None, d]).square_()
    return total
