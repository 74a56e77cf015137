"""SigLIP: each pair of rows is its own yes-or-no question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.losses.pairing import (
    Scale,
    at_least_float32,
    both_or_neither,
    check_embeddings,
    exact,
    nothing,
    one_number,
    per_row,
    row_ids,
    row_weights,
    same,
)
from align.losses.temperature import CLIP_LIMIT, Temperature

START_SCALE = 10.0
START_BIAS = -10.0


def siglip(
    a: Tensor,
    b: Tensor,
    scale: Scale,
    bias: Scale,
    *,
    sample_a: Tensor | None = None,
    sample_b: Tensor | None = None,
    group_a: Tensor | None = None,
    group_b: Tensor | None = None,
    weight_a: Tensor | None = None,
    weight_b: Tensor | None = None,
) -> Tensor:
    """The sigmoid loss of two sets of rows (Zhai et al. 2023, arXiv 2303.15343, equation 1); a 0-d tensor.

    -Σ_ij logsigmoid(±(s_ij + bias)) / ((n_a + n_b) / 2) with s_ij = scale·<a_i, b_j>, + for every pair of rows of one
    sample and - for all others: a batch without a positive still learns from its negatives.

    a: (n_a, D), b: (n_b, D). Logits are float32 at least, autocast or not.
    scale, bias: the multiplier, already exponentiated, and what is added to it.
    sample_a: (n_a,), sample_b: (n_b,) ids; row i belongs to sample i where none are given; -1 is everyone's negative.
    group_a, group_b: (n,) ids; a pair of one group (>= 0) that is no positive is left out.
    weight_a, weight_b: (n,) weights; a pair counts (w_i + w_j) / 2, and the divisor is (Σ w_a + Σ w_b) / 2.

    Without a pair the loss is zero and so are all gradients. Raises ValueError for shapes that do not fit.
    """
    check_embeddings([a, b])
    both_or_neither(group_a, group_b, "group")
    with exact(a):
        a, b = at_least_float32([a, b])
        scale, bias = one_number(scale, a), one_number(bias, a, "bias")
        positive = same(row_ids(sample_a, a, "sample_a"), row_ids(sample_b, b, "sample_b"))  # (n_a, n_b)
        w_a, w_b = row_weights(weight_a, a, "weight_a"), row_weights(weight_b, b, "weight_b")
        if not positive.numel():
            return nothing(a, b, scale, bias)
        logits = scale * (a @ b.T) + bias  # (n_a, n_b)
        losses = -F.logsigmoid(torch.where(positive, logits, -logits))
        if group_a is not None and group_b is not None:
            alike = same(per_row(group_a, a, "group_a"), per_row(group_b, b, "group_b"))
            losses = torch.where(alike & ~positive, 0, losses)
        total = w_a.sum() + w_b.sum()
        summed = ((w_a[:, None] + w_b[None, :]) * losses).sum()
        return summed / torch.where(total == 0, 1, total)


@final
class SigLIP(Temperature):
    """``siglip`` with a learned scale and a learned bias of shape (1,), which start at the paper's 10 and -10 (arXiv
    2303.15343, section 3.2): nearly all pairs are negatives, and are right from the first step.

    start_scale, start_bias, max_scale, learn_scale: None takes 10, -10 and the limit 100.
    """

    kind = "pairwise"

    def __init__(
        self,
        start_scale: float | None = None,
        start_bias: float | None = None,
        max_scale: float | None = None,
        learn_scale: bool = True,
    ):
        super().__init__(start_scale, max_scale, learn_scale)
        self.start_bias = start_bias
        self.bias = nn.Parameter(torch.zeros(1))
        self.start(0, 2, 0)

    @torch.no_grad()
    def start(self, dim: int, modalities: int, batch: int) -> None:
        """The paper's scale and bias, whatever D and N are."""
        self._set(START_SCALE, CLIP_LIMIT)
        assert self.bias is not None  # made above
        self.bias.fill_(START_BIAS if self.start_bias is None else self.start_bias)

    def forward(
        self,
        embeddings: Sequence[Tensor],
        samples: Sequence[Tensor],
        *,
        groups: Sequence[Tensor] | None = None,
        weights: Sequence[Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The 0-d loss of two sets of rows: embeddings (n_m, D), samples (n_m,), groups and weights likewise."""
        (a, b), (sample_a, sample_b) = embeddings, samples
        group_a, group_b = groups or (None, None)
        weight_a, weight_b = weights or (None, None)
        assert self.bias is not None  # made above
        return siglip(
            a,
            b,
            self.scale,
            self.bias,
            sample_a=sample_a,
            sample_b=sample_b,
            group_a=group_a,
            group_b=group_b,
            weight_a=weight_a,
            weight_b=weight_b,
        )
