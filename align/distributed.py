"""What the ranks of a run do together: gather rows with their gradients, and merge partial results,
exchange what one of them found.

On one process all of it is the identity. Every rank must call in the same order, with the same trailing shape.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor


def rank() -> int:
    """This process's number, 0 where there is only one."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world() -> int:
    """How many processes there are, 1 where nothing was started."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather(x: Tensor) -> Tensor:
    """All ranks' rows in rank order: (n_0 + n_1 + ..., ...) from each rank's (n_r, ...), n_r = 0 included.

    Its gradient is the sum over the ranks of their gradients to this rank's rows: so where every rank computes the
    same loss of the gathered rows, DDP's mean over ranks is the gradient of a single process.
    """
    if world() == 1:
        return x
    return _Gather.apply(x)


def merge(x: Tensor, how: Literal["sum", "logsumexp"]) -> Tensor:
    """x summed over the ranks, or its logs of sums joined, elementwise and without gradient. The same shape on all."""
    if how not in ("sum", "logsumexp"):
        raise ValueError(f"merge takes 'sum' or 'logsumexp'; got {how!r}")
    x = x.detach()
    if world() == 1:
        return x
    if how == "sum":
        return _sum(x)
    top = x.clone()
    dist.all_reduce(top, dist.ReduceOp.MAX)
    base = torch.where(top.isinf(), 0, top)  # -inf everywhere stays -inf, not NaN
    return _sum((x - base).exp()).log() + base


def exchange(content: bytes) -> list[bytes]:
    """Every rank's bytes in rank order, on all of them: for news that are nearly always empty. Nothing is unpickled.

    Goes from host to host (gloo) also where tensors go from GPU to GPU, so no stream is waited for.
    """
    if world() == 1:
        return [content]
    group = _hosts(dist.group.WORLD)
    mine = torch.tensor([len(content)])
    lengths = [torch.empty_like(mine) for _ in range(world())]
    dist.all_gather(lengths, mine, group=group)
    longest = max(map(int, lengths))
    if not longest:
        return [b""] * world()
    padded = torch.frombuffer(bytearray(content.ljust(longest, b"\0")), dtype=torch.uint8)
    pieces = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(pieces, padded, group=group)
    return [piece.numpy().tobytes()[: int(n)] for piece, n in zip(pieces, lengths, strict=True)]


@cache
def _hosts(everyone: Any) -> Any:
    """A group of all ranks that works on host memory; made by the first call, which all ranks make together."""
    return everyone if dist.get_backend(everyone) == "gloo" else dist.new_group(backend="gloo")


def _sum(x: Tensor) -> Tensor:
    total = x.contiguous().clone()
    dist.all_reduce(total)
    return total


def _lengths(x: Tensor) -> list[int]:
    mine = torch.tensor([len(x)], device=x.device)
    everyone = [torch.empty_like(mine) for _ in range(world())]
    dist.all_gather(everyone, mine)
    return [int(n) for n in torch.cat(everyone)]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        lengths = _lengths(x)
        ctx.start = sum(lengths[: rank()])
        ctx.n = len(x)
        if not max(lengths):
            return x.clone()
        padded = x.new_zeros(max(lengths), *x.shape[1:])  # collectives want one shape
        padded[: len(x)] = x
        pieces = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(pieces, padded)
        return torch.cat([piece[:n] for piece, n in zip(pieces, lengths, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (grad,) = grads
        if not len(grad):
            return grad
        wide = grad.to(torch.promote_types(grad.dtype, torch.float32))  # a sum of halves is taken in full
        return _sum(wide)[ctx.start : ctx.start + ctx.n].to(grad.dtype)
