"""Alignment and uniformity: positives close together, everything else spread over the sphere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from align.losses.kernels.inputs import check_embeddings, per_row, row_ids, row_weights
from align.losses.kernels.merging import log_sum_over_parts, sum_over_parts
from align.losses.kernels.multiply import multiply
from align.losses.kernels.numerics import at_least_float32, exact, log_sum, nothing
from align.losses.kernels.pairing import complete_tuples, same
from align.losses.kernels.parts import Merge, check_part, share, take_share
from align.losses.loss import Loss


def alignment(
    a: Tensor,
    b: Tensor,
    *,
    alpha: float = 2.0,
    sample_a: Tensor | None = None,
    sample_b: Tensor | None = None,
    weight_a: Tensor | None = None,
    weight_b: Tensor | None = None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
) -> Tensor:
    """Return the mean of |a_i - b_j|^α over the pairs of rows of one sample (Wang and Isola 2020, arXiv 2005.10242,
    equation 1); a 0-d tensor.

    It costs P·D for P pairs.

    a: (n_a, D), b: (n_b, D), unit vectors. Distances are float32 at least, autocast or not.
    alpha: α > 0. The paper's is 2. Where two rows coincide, the gradient is zero.
    sample_a, sample_b: ids. Without ids, row i belongs to sample i. A row of id -1 is in no pair.
    weight_a, weight_b: (n,) weights. A pair counts (w_i + w_j) / 2.
    part, merge: as in ``infonce``. A part takes its share of the pairs.

    Where nothing pairs, it is zero and so are all gradients. Raises ValueError for shapes that do not fit.
    """
    check_embeddings([a, b])
    _check_positive("alpha", alpha)
    check_part(part, merge)
    with exact(a):
        a, b = at_least_float32([a, b])
        weight_a, weight_b = row_weights(weight_a, a, "weight_a"), row_weights(weight_b, b, "weight_b")
        pairs = complete_tuples([row_ids(sample_a, a, "sample_a"), row_ids(sample_b, b, "sample_b")])  # (P, 2)
        i, j = take_share(pairs, part).unbind(1)
        squared = (a[i] - b[j]).square().sum(1)  # (P,) of this part
        apart = squared > 0
        distances = torch.where(apart, torch.where(apart, squared, 1) ** (alpha / 2), 0)
        weight = (weight_a[i] + weight_b[j]) / 2
        total = sum_over_parts(weight.sum(), merge)
        return sum_over_parts((weight * distances).sum(), merge) / torch.where(total == 0, 1, total)


def uniformity(
    x: Tensor,
    *,
    t: float = 2.0,
    sample: Tensor | None = None,
    group: Tensor | None = None,
    weight: Tensor | None = None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
) -> Tensor:
    """Return the log of the mean of exp(-t·|x_i - x_j|²) over the pairs of different rows (Wang and Isola 2020, arXiv
    2005.10242, equation 2); a 0-d tensor.

    It is lower where the rows are spread more evenly. It costs one n×n matrix.

    x: (n, D), unit vectors. Distances are float32 at least, autocast or not.
    t: > 0. The paper's is 2.
    sample, group: (n,) ids. A pair of one sample or of one group (>= 0) is left out, as it need not be far apart.
        Without ids, row i belongs to sample i.
    weight: (n,) weights. A pair counts w_i·w_j.
    part, merge: as in ``infonce``. A part makes its share of the matrix's rows.

    Without a pair it is zero and so are all gradients. Raises ValueError for shapes that do not fit.
    """
    check_embeddings([x])
    _check_positive("t", t)
    check_part(part, merge)
    with exact(x):
        (x,) = at_least_float32([x])
        ids, weight = row_ids(sample, x, "sample"), row_weights(weight, x, "weight")
        left_out = same(take_share(ids, part), ids)  # (t, n)
        left_out.diagonal(share(len(x), part)[0]).fill_(True)
        if group is not None:
            group = per_row(group, x, "group")
            left_out = left_out | same(take_share(group, part), group)
        if not len(x):
            return nothing(x)
        square = (x * x).sum(1)
        products = multiply(2 * take_share(x, part), x)
        squared = (take_share(square, part)[:, None] + square - products).clamp(min=0)  # (t, n)
        pairs = (take_share(weight, part)[:, None] * weight).masked_fill(left_out, 0)
        total = sum_over_parts(pairs.sum(), merge)
        logits = (pairs.log() - t * squared).flatten()
        every = log_sum(logits) if merge is None else log_sum_over_parts(logits, 0, merge)
        spread = every - torch.where(total > 0, total, 1).log()
        return torch.where(total > 0, spread, 0)


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is a positive number; got {value}")


@final
class AlignUniform(Loss):
    """The weighted sum of ``alignment``(a, b) and the mean of ``uniformity``(a) and ``uniformity``(b), as in the
    paper's section 5. In a config::

        terms:
          clip: {loss: align.losses.InfoNCE, between: [image, text]}
          spread: {loss: align.losses.AlignUniform, between: [image, text], weight: 0.1}

    When to use it: beside a contrastive term, to spread a space whose modalities crowd into a cone or lie apart. It
    trains alone too, without a temperature. Scoring then reads the space by cosine, as no term stands for it.

    alignment_weight, uniformity_weight: the weights of the two parts.
    alpha, t: as in ``alignment`` and ``uniformity``.
    """

    kind = "none"
    takes_unpaired = True
    in_parts = True

    def __init__(
        self, alignment_weight: float = 1.0, uniformity_weight: float = 1.0, alpha: float = 2.0, t: float = 2.0
    ):
        super().__init__()
        _check_positive("alpha", alpha)
        _check_positive("t", t)
        self.alignment_weight = alignment_weight
        self.uniformity_weight = uniformity_weight
        self.alpha = alpha
        self.t = t

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
        """Return the 0-d value of two sets of rows: embeddings (n_m, D), samples, groups and weights (n_m,)."""
        (a, b), (sample_a, sample_b) = embeddings, samples
        group_a, group_b = groups or (None, None)
        weight_a, weight_b = weights or (None, None)
        pull = alignment(
            a,
            b,
            alpha=self.alpha,
            sample_a=sample_a,
            sample_b=sample_b,
            weight_a=weight_a,
            weight_b=weight_b,
            part=part,
            merge=merge,
        )
        push = uniformity(a, t=self.t, sample=sample_a, group=group_a, weight=weight_a, part=part, merge=merge)
        push = push + uniformity(b, t=self.t, sample=sample_b, group=group_b, weight=weight_b, part=part, merge=merge)
        return self.alignment_weight * pull + self.uniformity_weight * push / 2
