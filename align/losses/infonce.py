"""InfoNCE between two modalities: each row finds the rows of its sample among all rows of the other side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, final

import torch
from torch import Tensor

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
    weighted_mean,
)
from align.losses.temperature import CLIP_LIMIT, CLIP_START, Temperature

Positives = Literal["mean", "inside", "sum"]


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
) -> Tensor:
    """The contrastive loss of two sets of rows, both directions added and halved; a 0-d tensor.

    With s_ij = scale·<a_i, b_j> and P(i) the rows of the other side that share anchor i's sample, an anchor costs
    -1/|P(i)| Σ_{p∈P(i)} log( exp s_ip / Σ_k exp s_ik ); a direction is the mean over the anchors with |P(i)| >= 1.
    Without sample ids it is CLIP's loss (Radford et al. 2021, arXiv 2103.00020, figure 3); with several positives it
    is supervised contrastive learning's L_out (Khosla et al. 2020, arXiv 2004.11362, equation 2).

    a: (n_a, D), b: (n_b, D). Logits are float32 at least, autocast or not.
    scale: the multiplier, already exponentiated.
    sample_a: (n_a,), sample_b: (n_b,) ids; row i belongs to sample i where none are given; -1 belongs to no sample and
        is a negative for everyone.
    positives: "mean" as above; "inside" averages inside the log: -log( 1/|P| Σ_p exp s_ip / Σ_k exp s_ik ) (L_in,
        equation 3 there); "sum" sums inside it.
    label_smoothing: ε in [0, 1): (1 - ε) of the loss above and ε of the mean of -log p over all candidates that remain.
    group_a, group_b: (n,) ids; rows of one group (>= 0) are never each other's negatives; a positive stays a positive.
    weight_a, weight_b: (n,) how much each anchor counts in its direction's mean.

    Where nothing pairs the loss is zero and so are all gradients. Raises ValueError for shapes and options that do not
    fit.
    """
    check_embeddings([a, b])
    if positives not in ("mean", "inside", "sum"):
        raise ValueError(f"positives is 'mean', 'inside' or 'sum'; got {positives!r}")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing is at least 0 and below 1; got {label_smoothing}")
    both_or_neither(group_a, group_b, "group")
    with exact(a):
        a, b = at_least_float32([a, b])
        scale = one_number(scale, a)
        positive = same(row_ids(sample_a, a, "sample_a"), row_ids(sample_b, b, "sample_b"))  # (n_a, n_b)
        alike = torch.zeros_like(positive)
        if group_a is not None and group_b is not None:
            alike = same(per_row(group_a, a, "group_a"), per_row(group_b, b, "group_b")) & ~positive
        weight_a, weight_b = row_weights(weight_a, a, "weight_a"), row_weights(weight_b, b, "weight_b")
        if not positive.numel():
            return nothing(a, b, scale)
        logits = scale * (a @ b.T)  # (n_a, n_b)
        there = _direction(logits, positive, alike, weight_a, positives, label_smoothing)
        back = _direction(logits.T, positive.T, alike.T, weight_b, positives, label_smoothing)
        return (there + back) / 2


def _direction(
    logits: Tensor, positive: Tensor, alike: Tensor, weight: Tensor, positives: Positives, label_smoothing: float
) -> Tensor:
    count = positive.sum(1)  # (n,)
    found = count > 0
    # An anchor without a positive is left as it is: were all its candidates alike, it would have none at all.
    left_out = alike & found[:, None]
    every = logits.masked_fill(left_out, -math.inf).logsumexp(1)  # (n,)
    if positives == "mean":
        own = torch.where(positive, logits, 0).sum(1) / count.clamp(min=1)
    else:
        own = logits.masked_fill(~positive & found[:, None], -math.inf).logsumexp(1)
        own = own - count.clamp(min=1).to(own).log() if positives == "inside" else own
    losses = every - own
    if label_smoothing:
        anyone = torch.where(left_out, 0, logits).sum(1) / (~left_out).sum(1).clamp(min=1)
        losses = (1 - label_smoothing) * losses + label_smoothing * (every - anyone)
    return weighted_mean(losses, weight, found)


@final
class InfoNCE(Temperature):
    """``infonce`` with a learned temperature that starts at CLIP's 1/0.07 and ends at CLIP's 100 (arXiv 2103.00020,
    section 2.5).

    positives, label_smoothing: as in ``infonce``. start_scale, max_scale, learn_scale: None takes CLIP's values.
    """

    kind = "pairwise"

    def __init__(
        self,
        positives: Positives = "mean",
        label_smoothing: float = 0.0,
        start_scale: float | None = None,
        max_scale: float | None = None,
        learn_scale: bool = True,
    ):
        super().__init__(start_scale, max_scale, learn_scale)
        self.positives: Positives = positives
        self.label_smoothing = label_smoothing

    def start(self, dim: int, modalities: int, batch: int) -> None:
        """CLIP's scale, whatever D and N are."""
        self._set(CLIP_START, CLIP_LIMIT)

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
        return infonce(
            a,
            b,
            self.scale,
            sample_a=sample_a,
            sample_b=sample_b,
            positives=self.positives,
            label_smoothing=self.label_smoothing,
            group_a=group_a,
            group_b=group_b,
            weight_a=weight_a,
            weight_b=weight_b,
        )
