"""A step of an optimiser on a small matrix: the kind of state that it keeps, and whether it goes with shards."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from align.optim.averaged import list_leaves

SIDE = 64  # of the matrix: 8-bit optimisers keep the state of fewer than 4,096 numbers in float32


def find_subclass(optimizer: Optimizer) -> str | None:
    """Return the class of tensors, no plain ones, in which an optimiser keeps its state, such as bytes with scales.

    Optimisers of torch keep plain tensors. Another takes a step of its own on a matrix, and so does each part of a
    Joined. It is of no use after that. None: all tensors are plain, or the step fails, as it will in the run.
    """
    for leaf in list_leaves(optimizer):
        if type(leaf).__module__.startswith("torch.optim"):
            continue
        p = nn.Parameter(torch.zeros(SIDE, SIDE, device=leaf.param_groups[0]["params"][0].device))
        try:
            _take_step(leaf, p)
        except Exception:
            continue
        for x in leaf.state[p].values():
            if isinstance(x, Tensor) and type(x) not in (Tensor, nn.Parameter):
                return type(x).__name__
    return None


def check_shards(optimizer: Optimizer, like: Any) -> None:
    """Raise ValueError, in one line, where an optimiser takes no step on parameters that FSDP2 has sharded.

    All ranks call it. The optimiser is of no use after that. like: a sharded parameter.
    """
    from torch.distributed.tensor import zeros

    for leaf in list_leaves(optimizer):
        whole = zeros(SIDE, SIDE, dtype=like.dtype, device_mesh=like.device_mesh, placements=like.placements)
        try:
            _take_step(leaf, nn.Parameter(whole))
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise ValueError(
                f"optim.optimizer: {type(leaf).__name__} takes no step on weights in shards ({reason}); take "
                "trainer.strategy ddp, or another optimiser"
            ) from error


def _take_step(optimizer: Optimizer, p: nn.Parameter) -> None:
    p.grad = torch.zeros_like(p)
    optimizer.param_groups = [{**optimizer.param_groups[0], "params": [p]}]
    optimizer.state.clear()
    optimizer.step()
