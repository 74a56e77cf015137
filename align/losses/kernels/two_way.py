"""A contrastive loss over similarities that are already computed: the matches of two sides, and both directions."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from align.losses.kernels.inputs import both_or_neither, per_row, row_ids, row_weights
from align.losses.kernels.merging import log_sum_over_parts, sum_over_parts
from align.losses.kernels.pairing import same, weighted_mean
from align.losses.kernels.parts import Merge, take_share

Positives = Literal["mean", "inside", "sum"]


class Matches(NamedTuple):
    """Rows of two sides that belong together, and pairs that are left out.

    Where the rows of a are shared out, n_a is the number of this part's, and ``merge`` joins the parts.
    """

    positive: Tensor  # (n_a, n_b) bool: rows of one sample
    left_out: Tensor  # (n_a, n_b) bool: neither positive nor negative
    weight_a: Tensor  # (n_a,)
    weight_b: Tensor  # (n_b,)
    merge: Merge | None = None


def match_rows(
    a: Tensor,
    b: Tensor,
    real_a: Tensor,
    real_b: Tensor,
    *,
    sample_a: Tensor | None,
    sample_b: Tensor | None,
    group_a: Tensor | None,
    group_b: Tensor | None,
    weight_a: Tensor | None,
    weight_b: Tensor | None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
) -> Matches:
    """Return the matches of two sides, with ids, groups and weights as in ``infonce``.

    A row that is not real (real_a (n_a,), real_b (n_b,)) pairs with nothing: it is no anchor, no positive and no
    negative. part, merge: the matches are those of this part's rows of a. Raises ValueError for shapes that do not fit.
    """
    both_or_neither(group_a, group_b, "group")
    there = take_share(real_a, part)[:, None] & real_b[None, :]  # (n_a, n_b)
    positive = same(take_share(row_ids(sample_a, a, "sample_a"), part), row_ids(sample_b, b, "sample_b")) & there
    left_out = ~there
    if group_a is not None and group_b is not None:
        alike = same(take_share(per_row(group_a, a, "group_a"), part), per_row(group_b, b, "group_b"))
        left_out = left_out | (alike & ~positive)
    weight_a, weight_b = row_weights(weight_a, a, "weight_a"), row_weights(weight_b, b, "weight_b")
    return Matches(positive, left_out, take_share(weight_a, part), weight_b, merge)


def two_way(there: Tensor, back: Tensor, matches: Matches, positives: Positives) -> Tensor:
    """Return the mean of the two directions, as ``infonce`` has them; a 0-d tensor.

    there: (n_a, n_b) finite logits of anchors a over candidates b. back: (n_b, n_a) those of anchors b over a, which
    need not be its transpose. positives: "mean", "inside" or "sum", as in ``infonce``. Where the rows of a are shared
    out, the value is whole and the gradient this part's share.
    """
    first = _direction(there, matches.positive, matches.left_out, matches.weight_a, positives, anchors=matches.merge)
    second = _direction(
        back, matches.positive.T, matches.left_out.T, matches.weight_b, positives, candidates=matches.merge
    )
    return (first + second) / 2


def check_positives(positives: Positives) -> None:
    """Raise ValueError for an unknown way to read several positives."""
    if positives not in ("mean", "inside", "sum"):
        raise ValueError(f"positives is 'mean', 'inside' or 'sum'; got {positives!r}")


def _direction(
    logits: Tensor,
    positive: Tensor,
    left_out: Tensor,
    weight: Tensor,
    positives: Positives,
    *,
    anchors: Merge | None = None,
    candidates: Merge | None = None,
) -> Tensor:
    """Return the weighted mean of the anchors' cross-entropies. One of the two sides may be shared out."""
    count = sum_over_parts(positive.sum(1), candidates)  # (n,)
    found = count > 0
    # An anchor without a positive keeps all its candidates: it counts for nothing, and might have none otherwise.
    every = log_sum_over_parts(logits.masked_fill(left_out & found[:, None], -math.inf), 1, candidates)
    if positives == "mean":
        right = sum_over_parts(torch.where(positive, logits, 0).sum(1), candidates) / count.clamp(min=1)
    else:
        right = log_sum_over_parts(logits.masked_fill(~positive & found[:, None], -math.inf), 1, candidates)
        right = right - count.clamp(min=1).to(right).log() if positives == "inside" else right
    return weighted_mean(every - right, weight, found, anchors)
