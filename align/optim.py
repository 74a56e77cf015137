"""Parameter groups and the learning rate as a function of the step."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import nn


def parameter_groups(*modules: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Two groups: matrices decay; vectors, scalars, norms and embeddings' temperatures do not.

    Each parameter once, in the order of the modules. Frozen parameters (``requires_grad=False``) are left out.
    """
    seen: set[int] = set()
    decay, rest = [], []
    for module in modules:
        for parameter in module.parameters():
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                (decay if parameter.ndim >= 2 else rest).append(parameter)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


@final
class AdamW:
    """AdamW (Loshchilov and Hutter 2019) with linear warm-up, cosine decay and gradient clipping.

    Args:
        lr: the highest learning rate.
        weight_decay: for matrices only.
        betas: decay rates of the two moments; CLIP's are (0.9, 0.98).
        eps: added to the root of the second moment.
        warmup: steps of linear warm-up; below 1 a fraction of all steps.
        final: the learning rate at the last step, as a fraction of `lr`.
        clip: the largest norm of the gradient; 0 for none.
        replan: plan the schedule anew where a run that has come to its end gets more steps; otherwise they have its
            final learning rate.
    """

    def __init__(
        self,
        lr: float = 1e-3,
        weight_decay: float = 0.05,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
        warmup: float = 0.05,
        final: float = 0.01,
        clip: float = 1.0,
        replan: bool = False,
    ):
        if lr <= 0 or warmup < 0 or clip < 0:
            raise ValueError(
                f"lr must be above 0, warmup and clip at least 0; got lr={lr}, warmup={warmup}, clip={clip}"
            )
        self.lr, self.weight_decay, self.betas, self.eps = lr, weight_decay, betas, eps
        self.warmup, self.final, self.clip, self.replan = warmup, final, clip, replan

    def build(self, *modules: nn.Module) -> torch.optim.AdamW:
        """The optimiser of these modules' parameters."""
        groups = parameter_groups(*modules, weight_decay=self.weight_decay)
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=True)

    def at(self, step: int, steps: int) -> float:
        """The learning rate of a step in a schedule of so many steps, and after their end. A pure function."""
        warm = self.warmup * steps if self.warmup < 1 else self.warmup
        if step < warm:
            return self.lr * (step + 1) / (warm + 1)
        done = min(1.0, (step - warm) / max(1.0, steps - 1 - warm))
        return self.lr * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * done)))
