"""Entropic optimal transport between two sets of tokens, in the log domain: nothing overflows at a small epsilon."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from align.losses.pairing import at_least_float32, exact
from align.losses.token_pairs import Comparison


def sinkhorn(
    cost: Tensor,
    mask_a: Tensor | None = None,
    mask_b: Tensor | None = None,
    *,
    epsilon: float = 0.1,
    steps: int = 20,
) -> tuple[Tensor, Tensor]:
    """What it costs to carry the mass of a onto b, (...), and the plan that does, (..., L_a, L_b).

    The mass is uniform over the real tokens of a, mu, and of b, nu. The cost is min_P <P, C> + epsilon · KL(P | mu nu')
    over the plans P with these marginals (Cuturi 2013, arXiv 1306.0895, equations 2 and 4; Peyre & Cuturi 2019, arXiv
    1803.00567, equation 4.2), by Sinkhorn's updates of the two potentials in the log domain (section 4.4 there). As
    epsilon goes to 0 it falls to the cost of the best assignment, as epsilon grows it rises to the mean of C.

    cost: (..., L_a, L_b). mask_a: (..., L_a), mask_b: (..., L_b) bool, true where a token is real; None: all are.
    epsilon: in the cost's units. steps: updates of each potential; about (range of C) / epsilon of them, or more.

    The plan ends with an update of b's potential: its sums over a are nu exactly, its sums over b are mu once the steps
    have converged. The cost is the dual's value at these potentials. Its gradient is the plan (Danskin), to rounding,
    with a's potential held fixed: so no step is kept for the backward pass. The plan has no gradient.

    Where one side has no real token, cost and plan are zero. Costs about 2·steps exponentials an entry. Raises
    ValueError for epsilon <= 0, steps < 1 and masks that do not fit.
    """
    check_sinkhorn(epsilon, steps)
    masks = []
    for name, mask, shape in (("mask_a", mask_a, cost.shape[:-1]), ("mask_b", mask_b, cost.mT.shape[:-1])):
        mask = cost.new_ones(shape, dtype=torch.bool) if mask is None else mask
        if mask.shape != shape or mask.dtype != torch.bool:
            said = f"{name} is {tuple(mask.shape)} of {mask.dtype}"
            raise ValueError(f"{said}; a cost of {tuple(cost.shape)} needs {tuple(shape)} of torch.bool")
        masks.append(mask)
    a, b = masks
    both = a.any(-1) & b.any(-1)  # (...)
    with exact(cost):
        (cost,) = at_least_float32([cost])
        log_a, log_b = _log_mass(a | ~both[..., None], cost), _log_mass(b | ~both[..., None], cost)
        kernel = cost / -epsilon
        with torch.no_grad():
            u = _potential(kernel, log_a, log_b, steps)
        value, v = _dual(kernel, u, log_a, log_b)
        plan = (kernel.detach() + u[..., :, None] + v.detach()[..., None, :]).exp()
        return torch.where(both, epsilon * value, 0), torch.where(both[..., None, None], plan, 0)


@final
class Entropic(Comparison):
    """``sinkhorn``'s cost of C = 1 - sim for the pairs of a tile; keeps a's potential, (p, q, L_a)."""

    outputs = 1

    def __init__(self, epsilon: float, steps: int):
        self.epsilon, self.steps = epsilon, steps

    def value(self, sim: Tensor, mask_a: Tensor, mask_b: Tensor) -> tuple[Tensor, Tensor]:
        kernel, log_a, log_b = self._given(sim, mask_a, mask_b)
        u = _potential(kernel, log_a, log_b, self.steps)
        return self.epsilon * _dual(kernel, u, log_a, log_b)[0][None], u

    def slope(self, sim: Tensor, mask_a: Tensor, mask_b: Tensor, grad: Tensor, kept: Tensor | None) -> Tensor:
        assert kept is not None  # by value
        kernel, log_a, log_b = self._given(sim, mask_a, mask_b)
        _, v = _dual(kernel, kept, log_a, log_b)
        plan = kernel.add_(kept[..., :, None]).add_(v[..., None, :]).exp_()  # (p, q, L_a, L_b)
        return plan.mul_(-grad[0][..., None, None]).transpose(1, 2)

    def _given(self, sim: Tensor, mask_a: Tensor, mask_b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-C / epsilon (p, q, L_a, L_b), and the log masses (p, 1, L_a) and (1, q, L_b)."""
        kernel = sim.sub_(1).div_(self.epsilon).transpose(1, 2).contiguous()
        return kernel, _log_mass(mask_a, sim)[:, None], _log_mass(mask_b, sim)[None]


def check_sinkhorn(epsilon: float, steps: int) -> None:
    """Raises ValueError for an epsilon or a number of steps that transports nothing."""
    if not epsilon > 0:
        raise ValueError(f"epsilon, the entropy's weight in the cost's units, is above 0; got {epsilon}")
    if steps < 1:
        raise ValueError(f"steps, the updates of each potential, is at least 1; got {steps}")


def _log_mass(mask: Tensor, like: Tensor) -> Tensor:
    """(..., L) the log of a uniform mass over the real tokens; -inf for the others."""
    mass = mask.to(like.dtype)
    return (mass / mass.sum(-1, keepdim=True)).log()


def _potential(kernel: Tensor, log_a: Tensor, log_b: Tensor, steps: int) -> Tensor:
    """(..., L_a) a's potential over epsilon plus ``log_a``, after so many updates. kernel: -C / epsilon."""
    u = log_a
    for step in range(steps):
        v = log_b - (kernel + u[..., :, None]).logsumexp(-2) if step else log_b
        u = log_a - (kernel + v[..., None, :]).logsumexp(-1)
    return u


def _dual(kernel: Tensor, u: Tensor, log_a: Tensor, log_b: Tensor) -> tuple[Tensor, Tensor]:
    """The dual's value over epsilon, (...), and b's potential for a's: its v (..., L_b), ``log_b`` included."""
    away = (kernel + u[..., :, None]).logsumexp(-2)  # (..., L_b), minus b's potential: finite, real token or not
    mine = torch.where(log_a.isinf(), 0, log_a.exp() * (u - log_a)).sum(-1)
    return mine - (log_b.exp() * away).sum(-1), log_b - away
