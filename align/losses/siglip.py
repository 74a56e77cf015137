"""SigLIP: each pair of rows is a yes-or-no question by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from align.losses.kernels.candidates import Alike
from align.losses.kernels.inputs import (
    Scale,
    both_or_neither,
    check_embeddings,
    one_number,
    per_row,
    row_ids,
    row_weights,
    sides,
)
from align.losses.kernels.numerics import exact, nothing, one_dtype
from align.losses.kernels.pairing import complete_tuples
from align.losses.kernels.parts import Merge, check_part
from align.losses.kernels.rule import Rule
from align.losses.kernels.sigmoid import SigmoidPlan, sigmoid_sum, tile_of
from align.losses.temperature import CLIP_LIMIT, Temperature

START_SCALE = 10.0


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
    rule: Rule | None = None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
    tile: int | None = None,
) -> Tensor:
    """Return the sigmoid loss of two sets of rows (Zhai et al. 2023, arXiv 2303.15343, equation 1); a 0-d tensor.

    -Σ_ij logsigmoid(±(s_ij + bias)) / ((n_a + n_b) / 2) with s_ij = scale·<a_i, b_j>. The sign is + for every pair of
    rows of one sample and - for all others, so a batch without a positive still learns from its negatives.

    a: (n_a, D), b: (n_b, D). Logits are float32 at least, autocast or not. Halves are multiplied as in ``infonce``.
    scale: the multiplier, already exponentiated.
    bias: a number added to the logits.
    sample_a: (n_a,), sample_b: (n_b,) ids. Without ids, row i belongs to sample i. Id -1 is everyone's negative.
    group_a, group_b: (n,) ids. A pair of one group (>= 0) that is no positive is left out.
    weight_a, weight_b: (n,) weights. A pair counts (w_i + w_j) / 2, and the divisor is (Σ w_a + Σ w_b) / 2.
    rule: more pairs that are left out, see ``align.losses.kernels.rule``. The longer side is then a.
    part, merge, tile: as in ``align.losses.kernels.tiles.log_sums``. A tile is this many rows of a.

    The gradient is taken in the forward pass, a tile at a time: 6·n_a·n_b·D operations, and extra memory that grows
    with (n_a + n_b)·D.

    Without a pair the loss is zero and so are all gradients. Raises ValueError for shapes that do not fit.
    """
    check_embeddings([a, b])
    both_or_neither(group_a, group_b, "group")
    check_part(part, merge, tile)
    if rule is not None and len(b) > len(a):  # a bank may have a million rows: it is the side that goes in tiles
        a, b, sample_a, sample_b, rule = b, a, sample_b, sample_a, rule.swap()
        group_a, group_b, weight_a, weight_b = group_b, group_a, weight_b, weight_a
    with exact(a):
        a, b = one_dtype([a, b])
        scale, bias = one_number(scale, a), one_number(bias, a, "bias")
        samples = [row_ids(sample_a, a, "sample_a"), row_ids(sample_b, b, "sample_b")]
        w_a, w_b = row_weights(weight_a, a, "weight_a"), row_weights(weight_b, b, "weight_b")
        groups = None
        if group_a is not None and group_b is not None:
            groups = [per_row(group_a, a, "group_a"), per_row(group_b, b, "group_b")]
        forbid = None if groups is None and rule is None else Alike(samples, groups, rule)
        if not len(a) or not len(b):
            return nothing(a, b, scale, bias)
        total = w_a.sum() + w_b.sum()
        total = torch.where(total == 0, 1, total)
        weights = None if weight_a is None and weight_b is None else (w_a / total, w_b / total)
        height, width = tile_of(len(b), a.shape[1], a.device) if tile is None else (tile, len(b))
        plan = SigmoidPlan(complete_tuples(samples), weights, 2 / total, forbid, part, merge, height, width)
        return sigmoid_sum(plan, a, b, scale, bias)


@final
class SigLIP(Temperature):
    """``siglip`` with a learned scale and a learned bias of shape (1,).

    The scale starts at the paper's 10 (arXiv 2303.15343, section 3.2), the bias at -log(N - 1) for N samples in a
    batch. One of a row's N pairs is right, so this is the best guess while the pairs say nothing. At the paper's batch
    of 32,768 it is -10.4, and the paper took -10.

    start_scale, start_bias, max_scale, learn_scale: None takes these values, and 100 as the limit.
    """

    kind = "pairwise"
    takes_unpaired = True
    takes_rule = True
    in_parts = True

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
        self.start(0, 2, 32768)

    @torch.no_grad()
    def start(self, dim: int, modalities: int, batch: int) -> None:
        """Set the paper's scale, whatever D is, and the bias from N = batch."""
        self._set(START_SCALE, CLIP_LIMIT)
        assert self.bias is not None  # made above
        self.bias.fill_(-math.log(max(batch - 1, 1)) if self.start_bias is None else self.start_bias)

    def forward(
        self,
        embeddings: Sequence[Tensor],
        samples: Sequence[Tensor],
        *,
        groups: Sequence[Tensor] | None = None,
        weights: Sequence[Tensor] | None = None,
        generator: torch.Generator | None = None,
        rule: Rule | None = None,
        part: tuple[int, int] = (0, 1),
        merge: Merge | None = None,
    ) -> Tensor:
        """Return the 0-d loss of two sets of rows: embeddings (n_m, D), samples (n_m,), groups and weights likewise."""
        a, b = embeddings
        assert self.bias is not None  # made above
        return siglip(
            a,
            b,
            self.scale,
            self.bias,
            rule=rule,
            part=part,
            merge=merge,
            **sides(samples, groups, weights),
        )
