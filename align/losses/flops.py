"""FLOPS: the mean cost of a product of two sparse rows, as a penalty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from align.losses.kernels.inputs import check_embeddings, row_weights
from align.losses.kernels.merging import sum_over_parts
from align.losses.kernels.numerics import at_least_float32, exact
from align.losses.kernels.parts import Merge, check_part, take_share
from align.losses.loss import Loss


def flops(
    x: Tensor, *, weight: Tensor | None = None, part: tuple[int, int] = (0, 1), merge: Merge | None = None
) -> Tensor:
    """Return Σ_d (mean_i |x_id|)² (Paria et al. 2020, arXiv:2004.05665, equation 4; SPLADE's penalty); a 0-d tensor.

    Its square weighs dimensions that many rows use above those that few do, so that postings are short. For unit
    vectors without negative entries it is least where rows have no dimension in common. It costs n·D.

    x: (n, D), of any length. Computed in float32 at least, autocast or not.
    weight: (n,) how much each row counts.
    part, merge: as in ``infonce``. A part takes its share of the rows.

    Without rows it is zero and so are all gradients. Raises ValueError for shapes that do not fit.
    """
    check_embeddings([x])
    check_part(part, merge)
    with exact(x):
        (x,) = at_least_float32([x])
        counts = row_weights(weight, x, "weight")
        total = counts.sum()
        counts = counts / torch.where(total == 0, 1, total)
        mean = take_share(counts, part) @ take_share(x, part).abs()  # (D,)
        return sum_over_parts(mean, merge).square().sum()


@final
class Flops(Loss):
    """The sum of ``flops`` over two modalities. In a config, beside a contrastive term and sparse heads::

        terms:
          clip: {loss: align.losses.InfoNCE, between: [image, text]}
          sparse: {loss: align.losses.Flops, between: [image, text], weight: 0.1}

    Scoring does not read it. factors: of the first and the second modality, which may have penalties of two sizes.
    """

    kind = "none"
    takes_unpaired = True
    in_parts = True

    def __init__(self, factors: Sequence[float] = (1.0, 1.0)):
        super().__init__()
        if len(factors) != 2 or any(f < 0 for f in factors):
            raise ValueError(f"factors are two numbers, 0 or more; got {list(factors)}")
        self.factors = list(factors)

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
        """Return the 0-d value of two sets of rows: embeddings (n_m, D), weights (n_m,), no groups."""
        first, second = (
            factor * flops(x, weight=weight, part=part, merge=merge)
            for x, weight, factor in zip(embeddings, weights or (None, None), self.factors, strict=True)
        )
        return first + second
