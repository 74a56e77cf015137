"""Spread: how much the rows of one modality point the same way. A regulariser against collapse."""

from __future__ import annotations

from torch import Tensor

from align.losses.kernels.inputs import check_embeddings
from align.losses.kernels.merging import sum_over_parts
from align.losses.kernels.multiply import multiply
from align.losses.kernels.numerics import at_least_float32, exact, nothing
from align.losses.kernels.parts import Merge, take_share


def spread(x: Tensor, part: tuple[int, int] = (0, 1), merge: Merge | None = None) -> Tensor:
    """Return the mean of <x_i, x_j>² over all i ≠ j; a 0-d tensor.

    It is the frame potential of unit rows (Benedetto & Fickus 2003, "Finite normalized tight frames"), and the second
    term of the spectral contrastive loss (HaoChen et al. 2021, arXiv 2106.04156, equation 6).

    x: (n, D). The mean is 1 where all rows are one, 1/D where they fill all directions alike. By ||XᵀX||² it costs n·D²
    operations and no (n, n) matrix. With fewer than two rows it is a differentiable zero.

    part, merge: as in ``infonce``. A part takes its share of the rows.
    """
    check_embeddings([x])
    with exact(x):
        (x,) = at_least_float32([x])
        n = len(x)
        if n < 2:
            return nothing(x)
        x = take_share(x, part)
        squares = sum_over_parts(multiply(x.T, x.T), merge).square().sum()
        total = squares - sum_over_parts(x.square().sum(1).square().sum(), merge)
        return total / (n * (n - 1))
