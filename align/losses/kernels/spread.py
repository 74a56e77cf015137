"""Spread: how much the rows of one modality point the same way. A regulariser against collapse."""

from __future__ import annotations

from torch import Tensor

from align.losses.kernels.inputs import check_embeddings
from align.losses.kernels.multiply import multiply
from align.losses.kernels.numerics import at_least_float32, exact, nothing


def spread(x: Tensor) -> Tensor:
    """Return the mean of <x_i, x_j>² over all i ≠ j; a 0-d tensor.

    It is the frame potential of unit rows (Benedetto & Fickus 2003, "Finite normalized tight frames"), and the second
    term of the spectral contrastive loss (HaoChen et al. 2021, arXiv 2106.04156, equation 6).

    x: (n, D). The mean is 1 where all rows are one, 1/D where they fill all directions alike. By ||XᵀX||² it costs n·D²
    operations and no (n, n) matrix. With fewer than two rows it is a differentiable zero.
    """
    check_embeddings([x])
    with exact(x):
        (x,) = at_least_float32([x])
        n = len(x)
        if n < 2:
            return nothing(x)
        total = multiply(x.T, x.T).square().sum() - x.square().sum(1).square().sum()
        return total / (n * (n - 1))
