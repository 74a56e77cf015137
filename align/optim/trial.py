"""A step of an optimiser on a small matrix, which shows the kind of state that it keeps."""

from __future__ import annotations

import torch
from torch import nn
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
        p.grad = torch.zeros_like(p)
        leaf.param_groups = [{**leaf.param_groups[0], "params": [p]}]
        leaf.state.clear()
        try:
            leaf.step()
        except Exception:
            continue
        for x in leaf.state[p].values():
            if isinstance(x, torch.Tensor) and type(x) not in (torch.Tensor, nn.Parameter):
                return type(x).__name__
    return None
