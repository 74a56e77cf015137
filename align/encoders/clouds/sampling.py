"""Farthest point sampling of point clouds: exact, in torch alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

BLOCK = 128
"""Points whose maximum is taken together: torch finds a maximum in blocks far faster than the place of one."""


@torch.no_grad()
def farthest_points(
    xyz: Tensor, count: int, start: int | None = None, skip_origin: bool = False, batched: bool | None = None
) -> Tensor:
    """Return the indices (n, count) of points of clouds (n, P, 3) that are far from each other (Eldar et al. 1997, "The
    farthest point strategy").

    Each step takes the point whose squared distance to the nearest point chosen is largest, so n · P · count distances
    are computed, in float32 at least and as (dx² + dy²) + dz². Ties go to the lower index. Where count is above the
    number of distinct points, points come again.

    start: index of the first point, by default the point farthest from the cloud's mean.
    skip_origin: sample as the CUDA kernel of pointnet2_ops does, which Uni3D and ULIP-2 were trained with (start=0 is
    its start). It never updates points with |x|² ≤ 1e-3, so that they are never chosen, but for point 0: that one also
    comes again where no other point is left. Distances above 1e10 count as 1e10. A tie goes to the thread that its
    reduction prefers: of T = min(512, the largest power of two ≤ P) threads, thread k mod T holds point k, and the
    smallest number of a thread wins, its bits read in reverse, then the lower index. The kernel's compiler may fuse
    products with sums, so its last bits, and a choice between two points that nearly tie, can differ from these.
    batched: True runs each step over all clouds, for a GPU. False runs a loop over clouds, for a CPU, whose cache holds
    one cloud. The indices are equal. None chooses by the device.

    Raises ValueError where a cloud has no points, or start is not the index of one.
    """
    n, P, _ = xyz.shape
    if not P or not 0 <= (start or 0) < P:
        raise ValueError(f"start is the index of a point, and the clouds are {tuple(xyz.shape)}; got start={start}")
    kind = torch.promote_types(xyz.dtype, torch.float32)
    planes = xyz.detach().to(kind).transpose(1, 2).contiguous()  # (n, 3, P)
    if start is None:
        first = _sum_planes((planes - planes.mean(2, keepdim=True)).square_()).argmax(1)
    else:
        first = torch.full((n,), start, device=xyz.device)
    if not skip_origin:
        nearest = planes.new_full((n, P), torch.inf)
        return _choose(planes, nearest, first, count, batched)
    order = _order_of_threads(P).to(xyz.device)
    planes = planes[..., order]
    squares = _sum_planes(planes.square())
    wide = squares.cpu().double() if squares.device.type == "mps" else squares.double()  # mps has no float64
    skipped = (wide <= 1e-3).to(squares.device)  # the kernel's 1e-3 is a double too
    nearest = torch.where(skipped, -1.0, 1e10).to(kind)
    return order[_choose(planes, nearest, order.argsort()[first], count, batched)]


def _sum_planes(planes: Tensor) -> Tensor:
    """Return x + y + z of (n, 3, P), (n, P), added in that order."""
    return planes[:, 0] + planes[:, 1] + planes[:, 2]


def _order_of_threads(P: int) -> Tensor:
    """Return the points (P,) in the order in which the kernel's reduction prefers them."""
    bits = min(9, int(math.log(P) / math.log(2)))
    reverse = [int(f"{t:0{bits}b}"[::-1], 2) if bits else 0 for t in range(1 << bits)]
    return (torch.tensor(reverse).repeat(P // len(reverse) + 1)[:P]).argsort(stable=True)


def _choose(planes: Tensor, nearest: Tensor, first: Tensor, count: int, batched: bool | None) -> Tensor:
    """Return (n, count) points of clouds (n, 3, P).

    nearest: (n, P) squared distance of each point to the nearest one chosen, at the start. It is written to. A point
    that is never chosen has -1.
    first: (n,) the first points.
    """
    if torch.compiler.is_compiling():  # a graph has no loop over a number of rows that it does not know
        batched = True
    if batched is None:
        batched = not planes.is_cpu
    if not count:
        return first.new_empty(len(first), 0)
    if batched:
        return _choose_of_all(planes, nearest, first, count)
    chosen = [_choose_of_one(p, near, i, count) for p, near, i in zip(planes, nearest, first.tolist(), strict=True)]
    return torch.tensor(chosen, dtype=torch.long, device=planes.device).view(-1, count)


def _choose_of_all(planes: Tensor, nearest: Tensor, current: Tensor, count: int) -> Tensor:
    planes = planes.transpose(0, 1).contiguous()  # (3, n, P)
    rows = torch.arange(nearest.shape[0], device=planes.device)
    chosen = [current]
    for _ in range(count - 1):
        x, y, z = (planes - planes[:, rows, current, None]).square_()
        nearest = torch.minimum(nearest, x + y + z)
        current = nearest.argmax(1)
        chosen.append(current)
    return torch.stack(chosen, 1)


@torch.inference_mode()  # the steps are so short that the bookkeeping of no_grad shows
def _choose_of_one(planes: Tensor, nearest: Tensor, current: int, count: int) -> list[int]:
    P = nearest.shape[0]
    padding = (0, -P % BLOCK)
    planes = torch.nn.functional.pad(planes, padding)
    nearest = torch.nn.functional.pad(nearest, padding, value=-1)  # so the padding is not chosen
    points = planes.T.contiguous().unsqueeze(2)  # (P, 3, 1)
    blocks = nearest.view(-1, BLOCK)
    tops = blocks.new_empty(len(blocks))
    distance = torch.empty_like(planes)
    x, y, z = distance
    chosen = [current]
    for _ in range(count - 1):  # every result goes to memory that is there already
        torch.sub(planes, points[current], out=distance)
        torch.mul(distance, distance, out=distance)
        torch.add(x, y, out=x)
        torch.add(x, z, out=x)
        torch.minimum(nearest, x, out=nearest)
        torch.amax(blocks, 1, out=tops)
        block = int(tops.argmax())  # the first of the blocks that hold the maximum
        current = block * BLOCK + int(blocks[block].argmax())
        chosen.append(current)
    return chosen
