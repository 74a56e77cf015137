"""InfoNCE between two modalities: each row finds the rows of its sample among all rows of the other side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from align.losses.kernels.candidates import Alike, mean_candidate
from align.losses.kernels.dense import dense_log_sums, is_small
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
from align.losses.kernels.pairing import by_anchor, complete_tuples, log_sum_by_anchor, same, weighted_mean
from align.losses.kernels.parts import Merge, check_part, detach_others
from align.losses.kernels.rule import Rule, find_left_out
from align.losses.kernels.tiles import log_sums
from align.losses.kernels.two_way import Positives, check_positives
from align.losses.temperature import ClipTemperature


def infonce(
    a: Tensor,
    b: Tensor,
    scale: Scale,
    *,
    sample_a: Tensor | None = None,
    sample_b: Tensor | None = None,
    positives: Positives = "mean",
    label_smoothing: float = 0.0,
    group_a: Tensor | None = None,
    group_b: Tensor | None = None,
    weight_a: Tensor | None = None,
    weight_b: Tensor | None = None,
    directions: tuple[float, float] = (1.0, 1.0),
    focal: float = 0.0,
    rule: Rule | None = None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
    tile: int | None = None,
) -> Tensor:
    """Return the contrastive loss of two sets of rows, the mean of both directions; a 0-d tensor.

    With s_ij = scale·<a_i, b_j> and P(i) the rows of the other side that share anchor i's sample, an anchor costs
    -1/|P(i)| Σ_{p∈P(i)} log( exp s_ip / Σ_k exp s_ik ). A direction is the mean over the anchors with |P(i)| >= 1.
    Without sample ids it is CLIP's loss (Radford et al. 2021, arXiv 2103.00020, figure 3). With several positives it is
    supervised contrastive learning's L_out (Khosla et al. 2020, arXiv 2004.11362, equation 2).

    a: (n_a, D), b: (n_b, D). Logits are float32 at least, autocast or not. Two sides in bfloat16, or in float16, are
        multiplied as they are where the device can, with float32 sums. Their gradients come back in that dtype.
    scale: the multiplier, already exponentiated.
    sample_a: (n_a,), sample_b: (n_b,) ids. Without ids, row i belongs to sample i. Id -1 belongs to no sample and is a
        negative for everyone.
    positives: how an anchor reads several positives. "mean" is the formula above. "inside" averages inside the log:
        -log( 1/|P| Σ_p exp s_ip / Σ_k exp s_ik ) (L_in, equation 3 there). "sum" sums inside the log.
    label_smoothing: ε in [0, 1). The cost is (1 - ε) of the one above and ε of the mean of -log p over all candidates
        that remain.
    group_a, group_b: (n,) ids. Rows of one group (>= 0) are never each other's negatives. A positive stays a positive.
    weight_a, weight_b: (n,) how much each anchor counts in its direction's mean.
    directions: weights of the direction from a to b and of that from b to a. The loss is their weighted mean.
    focal: γ >= 0. An anchor that finds its positives with probability p counts (1 - p)^γ, so hard ones lead (Lin et al.
        2017, arXiv 1708.02002, equation 4). p is exp of minus the anchor's cost before smoothing.
    rule: more pairs that are no negatives, see ``align.losses.kernels.rule``. They go without label_smoothing.
    part, merge, tile: as in ``align.losses.kernels.tiles.log_sums``: the share (i, n) of the tiles that this call
        computes, the function that joins the shares, and the rows of a tile. The value is the whole loss, its gradient
        this part's share.

    More than 2^16 logits (n_a, n_b) never stand in memory at once. Tiles of them are made once going forward and once
    going back, for both directions: 8·n_a·n_b·D operations in all, against 12 of two cross-entropies. Extra memory
    grows with (n_a + n_b)·D. Fewer logits are one matrix, with the same sums in the same order: value and gradient are
    equal to the bit, in half the time for 64 rows a side, and can be differentiated twice. A ``part`` or a ``tile``
    always means tiles.

    Where nothing pairs, the loss is zero and so are all gradients. Raises ValueError for shapes and options that do not
    fit.
    """
    check_embeddings([a, b])
    check_positives(positives)
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing is at least 0 and below 1; got {label_smoothing}")
    if not 0 <= focal < math.inf:
        raise ValueError(f"focal is at least 0; got {focal}")
    if len(directions) != 2 or min(directions) < 0 or not sum(directions) > 0:
        raise ValueError(f"directions are two weights, not negative and not both 0; got {directions}")
    if rule is not None and rule.leaves_out and label_smoothing:
        raise ValueError("label_smoothing takes the mean over all candidates, which a rule (a bank, a window) changes")
    both_or_neither(group_a, group_b, "group")
    check_part(part, merge, tile)
    with exact(a):
        a, b = one_dtype([a, b])
        scale = one_number(scale, a)
        samples = [row_ids(sample_a, a, "sample_a"), row_ids(sample_b, b, "sample_b")]
        groups = None
        if group_a is not None and group_b is not None:
            groups = [per_row(group_a, a, "group_a"), per_row(group_b, b, "group_b")]
        weights = [row_weights(weight_a, a, "weight_a"), row_weights(weight_b, b, "weight_b")]
        if not len(a) or not len(b):
            return nothing(a, b, scale)
        if is_small(a, b, part, merge, tile):
            positive = same(*samples)
            pairs = positive.nonzero()  # (C, 2), in the order of complete_tuples
            sums, logits = dense_log_sums(a, b, scale, pairs, find_left_out(positive, groups, rule))
        else:
            pairs = complete_tuples(samples)
            alike = None if groups is None and rule is None else Alike(samples, groups, rule)
            sums, logits = log_sums([a, b], scale, pairs, forbid=alike, part=part, merge=merge, tile=tile)
        total = scale.new_zeros(())
        for m, share in enumerate(directions):
            if not share:
                continue
            count, right = by_anchor(logits, pairs[:, m], len(sums[m]))
            if positives != "mean":
                right = log_sum_by_anchor(logits, pairs[:, m], len(sums[m]))
                right = right - count.clamp(min=1).log() if positives == "inside" else right
            losses = sums[m] - right  # (n_m,)
            if focal:
                losses = (1 - (-losses).exp()).clamp(min=0) ** focal * losses
            if label_smoothing:
                anyone = scale * mean_candidate([a, b], m, samples, groups)
                losses = (1 - label_smoothing) * losses + label_smoothing * (sums[m] - detach_others(anyone, part))
            total = total + share * weighted_mean(losses, weights[m], count > 0)
        return total / sum(directions)


@final
class InfoNCE(ClipTemperature):
    """``infonce`` with a learned temperature, from CLIP's 1/0.07 up to CLIP's 100 (arXiv 2103.00020, section 2.5).

    positives, label_smoothing, directions, focal: as in ``infonce``. The pairs of a term share the temperature: for one
    a pair, write one term a pair. start_scale, max_scale, learn_scale: None takes CLIP's values.
    """

    kind = "pairwise"
    takes_unpaired = True
    takes_rule = True
    in_parts = True

    def __init__(
        self,
        positives: Positives = "mean",
        label_smoothing: float = 0.0,
        directions: tuple[float, float] = (1.0, 1.0),
        focal: float = 0.0,
        start_scale: float | None = None,
        max_scale: float | None = None,
        learn_scale: bool = True,
    ):
        super().__init__(start_scale, max_scale, learn_scale)
        self.positives: Positives = positives
        self.label_smoothing = label_smoothing
        self.directions = directions
        self.focal = focal

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
        return infonce(
            a,
            b,
            self.scale,
            positives=self.positives,
            label_smoothing=self.label_smoothing,
            directions=self.directions,
            focal=self.focal,
            rule=rule,
            part=part,
            merge=merge,
            **sides(samples, groups, weights),
        )
