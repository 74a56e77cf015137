"""Norm of the gradient, and its clipping, for parameters that are whole, and for those that FSDP2 has sharded."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from align.model.inside import in_shards


def clip_gradients(parameters: Iterable[nn.Parameter], largest: float) -> Tensor:
    """Scale the gradients so that their norm is at most ``largest``, and return the norm before, on every rank.

    A norm over shards is that of the whole gradient. Pascanu et al. 2013 (arXiv:1211.5063, algorithm 1).
    """
    parameters = [p for p in parameters if p.grad is not None]
    sharded = [p for p in parameters if in_shards(p)]
    if not sharded:
        return torch.nn.utils.clip_grad_norm_(parameters, largest).detach()
    kinds = [sharded, [p for p in parameters if not in_shards(p)]]
    norms = [torch.nn.utils.get_total_norm([p.grad for p in some if p.grad is not None]) for some in kinds if some]
    whole = [norm.full_tensor() if in_shards(norm) else norm for norm in norms]  # pyright: ignore[reportAttributeAccessIssue]
    norm = torch.linalg.vector_norm(torch.stack(whole))
    for some in filter(None, kinds):
        torch.nn.utils.clip_grads_with_norm_(some, largest, norm)
    return norm.detach()


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
