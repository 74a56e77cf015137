"""Collective calls of the ranks of a run: gather rows with their gradients, merge partial results, exchange news.

On one process each is the identity. Every rank must call in the same order, with the same trailing shape.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor


def rank() -> int:
    """Return the number of this process, 0 where there is only one."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world() -> int:
    """Return the number of processes, 1 where no others were started."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather(x: Tensor) -> Tensor:
    """Return the rows of all ranks in rank order: (n_0 + n_1 + ..., ...) from (n_r, ...) of each. n_r may be 0.

    The gradient of this rank's rows is the sum of all ranks' gradients to them. So where every rank computes the same
    loss of the gathered rows, DDP's mean over ranks is the gradient of a single process.
    """
    if world() == 1:
        return x
    return _Gather.apply(x)


def merge(x: Tensor, how: Literal["sum", "logsumexp", "max"]) -> Tensor:
    """Return the sum of x over the ranks, of its exponentials as a log, or the maximum, elementwise without gradient.

    x has the same shape on all ranks. Raises ValueError for another ``how``.
    """
    if how not in ("sum", "logsumexp", "max"):
        raise ValueError(f"merge takes 'sum', 'logsumexp' or 'max'; got {how!r}")
    x = x.detach()
    if world() == 1:
        return x
    if how == "sum":
        return _sum(x)
    top = x.contiguous().clone()
    dist.all_reduce(top, dist.ReduceOp.MAX)
    if how == "max":
        return top
    base = torch.where(top.isinf(), 0, top)  # -inf everywhere stays -inf, not NaN
    return _sum((x - base).exp()).log() + base


def exchange(content: bytes) -> list[bytes]:
    """Return the bytes of every rank, in rank order: for news that are nearly always empty. Nothing is unpickled.

    They go from host to host (gloo), also where tensors go from GPU to GPU. So the call waits for no stream.
    """
    if world() == 1:
        return [content]
    group = _hosts(dist.group.WORLD)
    length = torch.tensor([len(content)])
    lengths = [torch.empty_like(length) for _ in range(world())]
    dist.all_gather(lengths, length, group=group)
    longest = max(map(int, lengths))
    if not longest:
        return [b""] * world()
    padded = torch.frombuffer(bytearray(content.ljust(longest, b"\0")), dtype=torch.uint8)
    pieces = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(pieces, padded, group=group)
    return [piece.numpy().tobytes()[: int(n)] for piece, n in zip(pieces, lengths, strict=True)]


class FailedElsewhere(Exception):
    """Error of another rank, met where this one waited for its news. line: the other's message. code: the exit code."""

    def __init__(self, line: str, code: int):
        super().__init__(line)
        self.line, self.code = line, code


def agree(content: bytes) -> list[bytes]:
    """Return the bytes of every rank as ``exchange`` does. Raises FailedElsewhere where a rank called ``give_up``."""
    news = exchange(b"+" + content)
    for piece in news:
        if piece[:1] == b"!":
            said = json.loads(piece[1:])
            raise FailedElsewhere(said["line"], said["code"])
    return [piece[1:] for piece in news]


def give_up(line: str, code: int) -> None:
    """Tell this rank's failure to the others, each of which meets it in its present or next ``agree``."""
    exchange(b"!" + json.dumps({"line": line, "code": code}).encode())


def leave() -> None:
    """Destroy the process group. No reference to it stays, which would abort the process at its end."""
    _hosts.cache_clear()
    dist.destroy_process_group()


@cache
def _hosts(everyone: Any) -> Any:
    """Return a group of all ranks that works on host memory. All ranks make the first call together."""
    return everyone if dist.get_backend(everyone) == "gloo" else dist.new_group(backend="gloo")


def _sum(x: Tensor) -> Tensor:
    total = x.contiguous().clone()
    dist.all_reduce(total)
    return total


def _lengths(x: Tensor) -> list[int]:
    length = torch.tensor([len(x)], device=x.device)
    everyone = [torch.empty_like(length) for _ in range(world())]
    dist.all_gather(everyone, length)
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
