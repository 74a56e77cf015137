"""Sinkhorn's updates in the log domain, and the transport cost of all pairs of rows."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from align.losses.kernels.token_pairs import Comparison


@final
class Entropic(Comparison):
    """``sinkhorn``'s cost of C = 1 - sim for the pairs of a tile. It keeps a's potential, (p, q, L_a)."""

    outputs = 1

    def __init__(self, epsilon: float, steps: int):
        self.epsilon, self.steps = epsilon, steps

    def value(self, sim: Tensor, mask_a: Tensor, mask_b: Tensor) -> tuple[Tensor, Tensor]:
        kernel, log_a, log_b = self._read_tile(sim, mask_a, mask_b)
        u = potential(kernel, log_a, log_b, self.steps)
        return self.epsilon * dual(kernel, u, log_a, log_b)[0][None], u

    def slope(self, sim: Tensor, mask_a: Tensor, mask_b: Tensor, grad: Tensor, kept: Tensor | None) -> Tensor:
        assert kept is not None  # by value
        kernel, log_a, log_b = self._read_tile(sim, mask_a, mask_b)
        _, v = dual(kernel, kept, log_a, log_b)
        plan = kernel.add_(kept[..., :, None]).add_(v[..., None, :]).exp_()  # (p, q, L_a, L_b)
        return plan.mul_(-grad[0][..., None, None]).transpose(1, 2)

    def _read_tile(self, sim: Tensor, mask_a: Tensor, mask_b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return -C / epsilon (p, q, L_a, L_b), and the log masses (p, 1, L_a) and (1, q, L_b)."""
        kernel = sim.sub_(1).div_(self.epsilon).transpose(1, 2).contiguous()
        return kernel, log_mass(mask_a, sim)[:, None], log_mass(mask_b, sim)[None]


def check_sinkhorn(epsilon: float, steps: int) -> None:
    """Raise ValueError for an epsilon or a number of steps that transports nothing."""
    if not epsilon > 0:
        raise ValueError(f"epsilon, the entropy's weight in the cost's units, is above 0; got {epsilon}")
    if steps < 1:
        raise ValueError(f"steps, the updates of each potential, is at least 1; got {steps}")


def log_mass(mask: Tensor, like: Tensor) -> Tensor:
    """Return the log of a uniform mass over the real tokens, (..., L), with -inf for the others."""
    mass = mask.to(like.dtype)
    return (mass / mass.sum(-1, keepdim=True)).log()


def potential(kernel: Tensor, log_a: Tensor, log_b: Tensor, steps: int) -> Tensor:
    """Return a's potential over epsilon plus ``log_a``, (..., L_a), after ``steps`` updates. kernel: -C / epsilon."""
    u = log_a
    for step in range(steps):
        v = log_b - (kernel + u[..., :, None]).logsumexp(-2) if step else log_b
        u = log_a - (kernel + v[..., None, :]).logsumexp(-1)
    return u


def dual(kernel: Tensor, u: Tensor, log_a: Tensor, log_b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the dual's value over epsilon, (...), and b's potential for a's: its v (..., L_b), ``log_b`` included."""
    away = (kernel + u[..., :, None]).logsumexp(-2)  # (..., L_b), minus b's potential: finite, real token or not
    kept = torch.where(log_a.isinf(), 0, log_a.exp() * (u - log_a)).sum(-1)
    return kept - (log_b.exp() * away).sum(-1), log_b - away
