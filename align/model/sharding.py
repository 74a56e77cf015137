"""FSDP2 of a joint model: weights split over ranks, block by block, and gathered again to be saved or measured.

Zhao et al. 2023 (arXiv:2304.11277) describe the method, torch.distributed.fsdp.fully_shard is its second version. A
rank holds its rows of every weight. A block's whole weights are there while it runs, forward or backward.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from align.distributed import rank
from align.model.inside import in_shards, plain_name, unwrap
from align.model.joint import JointModel
from align.model.tied import list_tied


def shard_model(model: JointModel, mesh: Any) -> None:
    """Split the weights of a model over the ranks of a device mesh, in place. All ranks call it.

    The ranks begin with the weights of rank 0. Each block of an encoder, the rest of the encoder, and each head are
    gathered by themselves. A shared encoder is split one time.

    mesh: of one dimension.
    """
    from torch.distributed.fsdp import fully_shard

    for x in model.state_dict().values():
        _take_first(x, mesh.device_type)
    parts = {id(part): part for part in list_tied(model)}  # each by itself, as several towers ask for its weights
    parts |= {id(part): part for tower in model.towers.values() for part in (tower.encoder, tower.head)}
    for part in parts.values():
        for module in (*list_blocks(unwrap(part)), unwrap(part)):
            if any(True for _ in module.parameters()):
                fully_shard(module, mesh=mesh, reshard_after_forward=True)  # so that parameters are always the shards


@torch.no_grad()
def _take_first(x: Tensor, device: str) -> None:
    """Give a tensor the values that it has on rank 0. device: that of the process group's collectives."""
    there = x.detach().to(device).contiguous()
    dist.broadcast(there, 0)
    x.copy_(there)


def list_blocks(part: nn.Module) -> list[nn.Module]:
    """Return the blocks of a network: the members of each outermost list of at least two modules of one class.

    >>> [type(block).__name__ for block in list_blocks(nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1)))]
    ['Linear', 'Linear']
    """
    return list(_blocks(part))


def _blocks(part: nn.Module) -> Iterator[nn.Module]:
    members = [m for m in part.children() if any(True for _ in m.parameters())]
    alike = isinstance(part, nn.ModuleList | nn.Sequential) and len({type(m) for m in members}) == 1
    if alike and len(members) > 1:
        yield from members
        return
    for child in part.children():
        yield from _blocks(child)


def outline(model: JointModel) -> JointModel:
    """Return a copy of a model whose parameters take no memory. Call it before the model is split."""
    light = {id(p): nn.Parameter(p.detach().to("meta"), requires_grad=False) for p in model.parameters()}
    return copy.deepcopy(model, light)


def gather_weights(module: nn.Module) -> dict[str, Tensor]:
    """Return the whole state dict on the host of rank 0, under plain names, and {} on the others. All ranks call it.

    A device holds one whole tensor at a time.
    """
    plain, found = plain_name(module), {}
    for name, x in module.state_dict().items():
        whole = x.detach().full_tensor() if in_shards(x) else x.detach()
        if rank() == 0:
            found[plain(name)] = whole.cpu()
    return found


def share_buffers(module: nn.Module) -> None:
    """Give every rank the buffers of rank 0, as DDP does in each step. All ranks call it."""
    for x in module.buffers():
        dist.broadcast(x, 0)
