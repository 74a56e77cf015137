"""VICReg: coordinates that vary, and differ from each other, so that a space cannot collapse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from align.losses.kernels.inputs import check_embeddings, row_weights
from align.losses.kernels.merging import sum_over_parts
from align.losses.kernels.multiply import multiply
from align.losses.kernels.numerics import at_least_float32, exact
from align.losses.kernels.parts import Merge, check_part, take_share
from align.losses.loss import Loss
from align.losses.uniformity import alignment


def variance(
    x: Tensor,
    *,
    target: float = 1.0,
    eps: float = 1e-4,
    weight: Tensor | None = None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
) -> Tensor:
    """Return 1/D Σ_d max(0, γ - √(Var(x_d) + ε)) over the rows (Bardes et al. 2022, VICReg, arXiv 2105.04906, equations
    1 and 2); a 0-d tensor.

    It costs n·D.

    x: (n, D), not normalised, or unit vectors times √D. Computed in float32 at least, autocast or not.
    target: γ, the standard deviation asked of every coordinate.
    eps: ε.
    weight: (n,) how much each row counts. Variances are unbiased.
    part, merge: as in ``infonce``. A part takes its share of the rows.

    With fewer than two rows it is zero and so are all gradients. Raises ValueError for shapes that do not fit.
    """
    check_embeddings([x])
    check_part(part, merge)
    with exact(x):
        centred, counts, unbiased, several = _centre(x, weight, part)
        squares = sum_over_parts((counts[:, None] * centred * centred).sum(0), merge)
        deviation = (squares / unbiased + eps).sqrt()  # (D,)
        return torch.where(several, (target - deviation).relu().mean(), 0)


def covariance(
    x: Tensor, *, weight: Tensor | None = None, part: tuple[int, int] = (0, 1), merge: Merge | None = None
) -> Tensor:
    """Return 1/D Σ_{d≠e} C_de² with C the covariance of the coordinates over the rows (Bardes et al. 2022, arXiv
    2105.04906, equations 3 and 4); a 0-d tensor.

    It costs n·D², and one D×D matrix, which ``merge`` sums over the parts.

    x, weight, part, merge: as in ``variance``. With fewer than two rows it is zero and so are all gradients.
    """
    check_embeddings([x])
    check_part(part, merge)
    with exact(x):
        centred, counts, unbiased, _ = _centre(x, weight, part)
        C = sum_over_parts(multiply((counts[:, None] * centred).T, centred.T), merge) / unbiased  # (D, D)
        return (C.square().sum() - C.diagonal().square().sum()) / max(1, x.shape[1])


def _centre(x: Tensor, weight: Tensor | None, part: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return this part's rows less the mean of all (t, D), each row's share of the weight (t,), 1 - Σ share² over all
    rows, and a 0-d bool, True where two rows or more count.

    The third is (n-1)/n where all rows count alike.
    """
    (x,) = at_least_float32([x])
    counts = row_weights(weight, x, "weight")
    total = counts.sum()
    counts = counts / torch.where(total == 0, 1, total)
    rest, several = 1 - counts.square().sum(), counts.count_nonzero() > 1
    return take_share(x, part) - counts @ x, take_share(counts, part), torch.where(several, rest, 1), several


def vicreg(
    a: Tensor,
    b: Tensor,
    *,
    invariance_weight: float = 25.0,
    variance_weight: float = 25.0,
    covariance_weight: float = 1.0,
    target: float = 1.0,
    eps: float = 1e-4,
    sample_a: Tensor | None = None,
    sample_b: Tensor | None = None,
    weight_a: Tensor | None = None,
    weight_b: Tensor | None = None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
) -> Tensor:
    """Return λ·s(a, b) + μ·(v(a) + v(b)) + ν·(c(a) + c(b)) (Bardes et al. 2022, arXiv 2105.04906, equation 6); a 0-d
    tensor.

    v is ``variance``, c is ``covariance``, and s is the mean of |a_i - b_j|² / D over the pairs of rows of one sample:
    equation 5 per coordinate, as the other two are.

    When to use it: beside a contrastive term where the batch is small or the space collapses to few dimensions. It
    compares no row with any other, so there are no false negatives. It costs (n_a + n_b)·D².

    a: (n_a, D), b: (n_b, D), not normalised, or unit vectors times √D.
    invariance_weight, variance_weight, covariance_weight: λ, μ, ν.
    target, eps: as in ``variance``.
    sample_a, sample_b: ids. Without ids, row i belongs to sample i. A row of id -1 is in no pair, and varies with the
        others.
    weight_a, weight_b: (n,) how much each row counts. A pair counts the mean of its two.
    part, merge: as in ``infonce``. A part takes its share of the rows and of the pairs.

    There are no groups, as nothing is pushed from anything. Raises ValueError for shapes that do not fit.
    """
    pull = alignment(
        a, b, sample_a=sample_a, sample_b=sample_b, weight_a=weight_a, weight_b=weight_b, part=part, merge=merge
    ) / max(1, a.shape[-1])
    shared = {"part": part, "merge": merge}
    spread = variance(a, target=target, eps=eps, weight=weight_a, **shared)
    spread = spread + variance(b, target=target, eps=eps, weight=weight_b, **shared)
    crossed = covariance(a, weight=weight_a, **shared) + covariance(b, weight=weight_b, **shared)
    return invariance_weight * pull + variance_weight * spread + covariance_weight * crossed


@final
class VICReg(Loss):
    """``vicreg`` as a module. In a config::

        terms:
          clip: {loss: align.losses.InfoNCE, between: [image, text]}
          spread: {loss: align.losses.VICReg, between: [image, text], weight: 0.01}

    Scoring does not read it: alone, its space is read by cosine.

    unit: the embeddings are unit vectors, as a JointModel's are unless it says ``normalize: false``. They are
        multiplied by √D first, so that every coordinate can have a standard deviation of 1.
    The other arguments: as in ``vicreg``.
    """

    kind = "none"
    takes_unpaired = True
    in_parts = True

    def __init__(
        self,
        invariance_weight: float = 25.0,
        variance_weight: float = 25.0,
        covariance_weight: float = 1.0,
        target: float = 1.0,
        eps: float = 1e-4,
        unit: bool = True,
    ):
        super().__init__()
        self.invariance_weight = invariance_weight
        self.variance_weight = variance_weight
        self.covariance_weight = covariance_weight
        self.target = target
        self.eps = eps
        self.unit = unit

    def forward(
        self,
        embeddings: Sequence[Tensor],
        samples: Sequence[Tensor],
        *,
        groups: Sequence[Tensor] | None = None,
        weights: Sequence[Tensor] | None = None,
        generator: torch.Generator | None = None,
        part: tuple[int, int] = (0, 1),
        merge: Merge | None = None,
    ) -> Tensor:
        """Return the 0-d value of two sets of rows: embeddings (n_m, D), samples and weights (n_m,), no groups."""
        a, b = at_least_float32(embeddings)
        if self.unit:
            a, b = (math.sqrt(x.shape[-1]) * x for x in (a, b))
        weight_a, weight_b = weights or (None, None)
        return vicreg(
            a,
            b,
            invariance_weight=self.invariance_weight,
            variance_weight=self.variance_weight,
            covariance_weight=self.covariance_weight,
            target=self.target,
            eps=self.eps,
            sample_a=samples[0],
            sample_b=samples[1],
            weight_a=weight_a,
            weight_b=weight_b,
            part=part,
            merge=merge,
        )
