"""Rows of tokens for tests: ragged samples, masks with holes and one row without a token, and a contrastive loop."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

ragged = {  # two rows of sample 4, samples on one side only, hard negatives, a group across samples
    "sample_a": torch.tensor([0, 4, 4, 2, -1, 7, 3]),
    "sample_b": torch.tensor([4, 0, 4, -1, 9, 2, 3, 0]),
    "group_a": torch.tensor([5, 1, 1, 5, -1, 3, -1]),
    "group_b": torch.tensor([1, 5, 1, -1, 3, 5, 3, 5]),
    "weight_a": torch.tensor([1.0, 0.5, 2.0, 0.25, 1.0, 3.0, 1.5], dtype=torch.float64),
    "weight_b": torch.tensor([1.0, 0.25, 1.0, 1.0, 1.0, 0.5, 2.0, 1.0], dtype=torch.float64),
}


def token_rows(n: int, L: int, dim: int = 5, seed: int = 0, dead: int | None = None) -> tuple[Tensor, Tensor]:
    """(n, L, dim) unit tokens with gradients and an (n, L) mask with holes; ``dead`` is a row without a real token."""
    draw = torch.Generator().manual_seed(seed)
    tokens = F.normalize(torch.randn(n, L, dim, dtype=torch.float64, generator=draw), dim=-1).requires_grad_()
    mask = torch.rand(n, L, generator=draw) < 0.7
    mask[:, 0] = True
    if dead is not None:
        mask[dead] = False
    return tokens, mask


def contrast_loop(there, back, sample_a, sample_b, alive_a, alive_b, positives="mean", **more):
    """One anchor after the other. there[i][j]: a's logit for row i of a and row j of b; back[j][i]: b's."""
    group_a, group_b = more.get("group_a"), more.get("group_b")
    sides = (
        (there, sample_a, sample_b, alive_a, alive_b, group_a, group_b, more.get("weight_a")),
        (back, sample_b, sample_a, alive_b, alive_a, group_b, group_a, more.get("weight_b")),
    )
    total = 0.0
    for s, mine, theirs, anchors, candidates, my_group, their_group, weight in sides:
        summed, count = 0.0, 0.0
        for i in range(len(mine)):
            if not anchors[i]:
                continue
            there_is = [j for j in range(len(theirs)) if candidates[j]]
            own = [j for j in there_is if mine[i] >= 0 and mine[i] == theirs[j]]
            if not own:
                continue
            alike = [j for j in there_is if my_group is not None and my_group[i] >= 0 and my_group[i] == their_group[j]]
            every = sum(torch.exp(s[i][j]) for j in there_is if j in own or j not in alike)
            p = [torch.exp(s[i][j]) / every for j in own]
            if positives == "mean":
                cost = -sum(torch.log(x) for x in p) / len(own)
            else:
                cost = -torch.log(sum(p)) + (math.log(len(own)) if positives == "inside" else 0)
            w = 1.0 if weight is None else weight[i]
            summed, count = summed + w * cost, count + w
        total = total + (summed / count if count else 0.0)
    return total / 2


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that an operation made."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else [out]:
            self.numel = max(self.numel, x.numel() if isinstance(x, torch.Tensor) else 0)
        return out
