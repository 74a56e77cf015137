"""Entropic optimal transport between two sets of tokens, in the log domain: nothing overflows at a small epsilon."""

from __future__ import annotations

import torch
from torch import Tensor

from align.losses.kernels.entropic import check_sinkhorn, dual, log_mass, potential
from align.losses.kernels.numerics import at_least_float32, exact


def sinkhorn(
    cost: Tensor,
    mask_a: Tensor | None = None,
    mask_b: Tensor | None = None,
    *,
    epsilon: float = 0.1,
    steps: int = 20,
) -> tuple[Tensor, Tensor]:
    """Return the cost of carrying the mass of a onto b, (...), and the plan that carries it, (..., L_a, L_b).

    The mass is uniform over the real tokens of a, mu, and of b, nu. The cost is min_P <P, C> + epsilon · KL(P | mu nu')
    over the plans P with these marginals (Cuturi 2013, arXiv 1306.0895, equations 2 and 4, and Peyre & Cuturi 2019,
    arXiv 1803.00567, equation 4.2), by Sinkhorn's updates of the two potentials in the log domain (section 4.4 there).
    As epsilon goes to 0, it falls to the cost of the best assignment. As epsilon grows, it rises to the mean of C.

    cost: (..., L_a, L_b). mask_a: (..., L_a), mask_b: (..., L_b) bool, true where a token is real. None: all are.
    epsilon: in the cost's units.
    steps: updates of each potential. Take about (range of C) / epsilon of them, or more.

    The plan ends with an update of b's potential. Its sums over a are nu exactly, its sums over b are mu once the steps
    have converged. The cost is the dual's value at these potentials. Its gradient is the plan (Danskin), to rounding,
    with a's potential held fixed, so no step is kept for the backward pass. The plan has no gradient.

    Where one side has no real token, cost and plan are zero. It costs about 2·steps exponentials an entry. Raises
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
        log_a, log_b = log_mass(a | ~both[..., None], cost), log_mass(b | ~both[..., None], cost)
        kernel = cost / -epsilon
        with torch.no_grad():
            u = potential(kernel, log_a, log_b, steps)
        value, v = dual(kernel, u, log_a, log_b)
        plan = (kernel.detach() + u[..., :, None] + v.detach()[..., None, :]).exp()
        return torch.where(both, epsilon * value, 0), torch.where(both[..., None, None], plan, 0)
