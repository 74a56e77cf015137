"""Norm of the gradient, and its clipping, for parameters that are whole, and for those that FSDP2 has sharded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from align.model.inside import in_shards


def measure_norm(gradients: Iterable[Tensor], dtype: torch.dtype | None = None) -> Tensor:
    """Return the norm of all gradients, a 0-d tensor, equal on every rank. A norm over shards is that of the whole.

    dtype: the norm is taken in it. Default: that of the gradients.
    """
    gradients = list(gradients)
    if dtype is not None:
        return torch.linalg.vector_norm(
            torch.stack([_join(torch.linalg.vector_norm(g, dtype=dtype)) for g in gradients])
        )
    kinds = [[g for g in gradients if in_shards(g) is sharded] for sharded in (True, False)]
    norms = [_join(torch.nn.utils.get_total_norm(some)) for some in kinds if some or not gradients]
    return norms[0] if len(norms) == 1 or not gradients else torch.linalg.vector_norm(torch.stack(norms))


def clip_gradients(parameters: Iterable[nn.Parameter], largest: float, norm: Tensor) -> None:
    """Scale the gradients so that their norm, which is `norm` now, is at most ``largest``.

    Pascanu et al. 2013 (arXiv:1211.5063, algorithm 1).
    """
    parameters = [p for p in parameters if p.grad is not None]
    for sharded in (True, False):
        some = [p for p in parameters if in_shards(p) is sharded]
        if some:
            torch.nn.utils.clip_grads_with_norm_(some, largest, norm)


def _join(x: Any) -> Tensor:
    """Return the value of a reduction over all ranks, where a gradient is sharded."""
    return x.full_tensor() if in_shards(x) else x


def average_whole(parameters: Iterable[nn.Parameter]) -> None:
    """Give the gradients of parameters that are whole on each rank their mean over the ranks, as DDP does.

    All ranks call it with the same parameters. One that has no gradient on any rank gets none.
    """
    for p in parameters:
        if not p.requires_grad or in_shards(p):
            continue
        grad = torch.zeros_like(p) if p.grad is None else p.grad
        sums = torch.cat([grad.reshape(-1), grad.new_tensor([float(p.grad is not None)])])
        dist.all_reduce(sums)
        if sums[-1] > 0:
            p.grad = (sums[:-1] / dist.get_world_size()).view_as(p)
