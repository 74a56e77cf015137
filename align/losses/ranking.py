"""Hinge ranking: a row's counterpart beats all other rows, or the hardest of them, by a margin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, final

import torch
from torch import Tensor

from align.losses.kernels.inputs import both_or_neither, check_embeddings, per_row, row_ids, row_weights, sides
from align.losses.kernels.merging import max_over_parts, sum_over_parts
from align.losses.kernels.multiply import multiply
from align.losses.kernels.numerics import exact, nothing, one_dtype
from align.losses.kernels.pairing import complete_tuples, same, weighted_mean
from align.losses.kernels.parts import Merge, check_part, share, take_share
from align.losses.loss import Loss

Against = Literal["hardest", "sum"]
Sides = Literal["both", "a", "b"]


def hinge(
    a: Tensor,
    b: Tensor,
    *,
    margin: float = 0.2,
    negatives: Against = "hardest",
    sides: Sides = "both",
    sample_a: Tensor | None = None,
    sample_b: Tensor | None = None,
    group_a: Tensor | None = None,
    group_b: Tensor | None = None,
    weight_a: Tensor | None = None,
    weight_b: Tensor | None = None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
) -> Tensor:
    """Return the triplet ranking loss of two sets of rows (Faghri et al. 2018, VSE++, arXiv 1707.05612, equations 4 to
    6); a 0-d tensor.

    With s_ij = <a_i, b_j>, P(i) the rows of the other side that share anchor i's sample and N(i) all others, an anchor
    costs 1/|P(i)| Σ_{p∈P(i)} Σ_{k∈N(i)} max(0, margin - s_ip + s_ik), the sum of hinges. "hardest" takes the largest of
    them in place of the inner sum. A direction is the mean over the anchors with |P(i)| >= 1. The paper adds the
    anchors up, so its value for n pairs is 2n times this one.

    When to use it: for small sets and fine-tuning. It needs no temperature and stops pushing rows that are far enough
    apart. "hardest" ranks better at the top than "sum" on clean data, but starts slowly and chases mislabelled rows.
    For large noisy batches take ``infonce``. It costs one n_a×n_b matrix.

    a: (n_a, D), b: (n_b, D), unit vectors for cosines. Similarities are float32 at least, autocast or not.
    sides: which rows are anchors. "a" ranks the rows of b for each row of a, "b" the other way, "both" is their mean.
    sample_a: (n_a,), sample_b: (n_b,) ids. Without ids, row i belongs to sample i. Id -1 belongs to no sample and is a
        negative for everyone.
    group_a, group_b: (n,) ids. Rows of one group (>= 0) are never each other's negatives. A positive stays a positive.
    weight_a, weight_b: (n,) how much each anchor counts in its direction's mean.
    part, merge: as in ``infonce``. A part makes its share of the matrix's rows.

    Where nothing pairs, the loss is zero and so are all gradients. Raises ValueError for shapes and options that do not
    fit.
    """
    check_embeddings([a, b])
    _check(margin, negatives, sides)
    both_or_neither(group_a, group_b, "group")
    check_part(part, merge)
    with exact(a):
        a, b = one_dtype([a, b])
        first, last = share(len(a), part)  # t of the n_a rows
        ids = [row_ids(sample_a, a, "sample_a"), row_ids(sample_b, b, "sample_b")]
        negative = ~same(take_share(ids[0], part), ids[1])  # (t, n_b)
        if group_a is not None and group_b is not None:
            negative = negative & ~same(
                take_share(per_row(group_a, a, "group_a"), part), per_row(group_b, b, "group_b")
            )
        weight_a, weight_b = row_weights(weight_a, a, "weight_a"), row_weights(weight_b, b, "weight_b")
        if not len(a) or not len(b):
            return nothing(a, b)
        pairs = complete_tuples(ids)  # (C, 2): the positives
        s = multiply(take_share(a, part), b)  # (t, n_b)
        near = (pairs[:, 0] >= first) & (pairs[:, 0] < last)
        inside = pairs[near] - pairs.new_tensor([first, 0])  # of this part's rows
        right = s[inside[:, 0], inside[:, 1]]
        directions = []
        if sides != "b":
            of = inside[:, 0], right
            directions.append(
                _direction(s, negative, *of, take_share(weight_a, part), margin, negatives, anchors=merge)
            )
        if sides != "a":
            of = inside[:, 1], right
            if merge is not None:  # a row of this part is ranked below positives of other parts too
                right = (a[pairs[:, 0]].to(s.dtype) * b[pairs[:, 1]].to(s.dtype)).sum(1)  # (C,)
                if negatives == "hardest":  # every part has the whole cost
                    right = torch.where(near, right, right.detach())
                of = pairs[:, 1], right
            directions.append(_direction(s.T, negative.T, *of, weight_b, margin, negatives, candidates=merge))
        return torch.stack(directions).mean()


def _direction(
    s: Tensor,
    negative: Tensor,
    anchor: Tensor,
    right: Tensor,
    weight: Tensor,
    margin: float,
    negatives: Against,
    *,
    anchors: Merge | None = None,
    candidates: Merge | None = None,
) -> Tensor:
    """Return the weighted mean of the anchors' costs. One of the two sides may be shared out.

    s, negative: (n, k). anchor, right: (C,) the anchor and the similarity of each positive pair. weight: (n,).
    """
    against = s.masked_fill(~negative, -math.inf)
    if negatives == "hardest":
        costs = (margin - right + max_over_parts(against, 1, candidates)[anchor]).relu()
    else:
        costs = sum_over_parts((margin - right[:, None] + against[anchor]).relu().sum(1), candidates)
    count = anchor.new_zeros(len(s)).index_add(0, anchor, torch.ones_like(anchor))
    losses = s.new_zeros(len(s)).index_add(0, anchor, costs) / count.clamp(min=1)
    return weighted_mean(losses, weight, count > 0, anchors)


def _check(margin: float, negatives: str, sides: str) -> None:
    if not 0 <= margin < math.inf:
        raise ValueError(f"margin is a number of at least 0; got {margin}")
    if negatives not in ("hardest", "sum"):
        raise ValueError(f"negatives is 'hardest' or 'sum'; got {negatives!r}")
    if sides not in ("both", "a", "b"):
        raise ValueError(f"sides is 'both', 'a' or 'b'; got {sides!r}")


@final
class Hinge(Loss):
    """``hinge`` as a module. In a config::

        terms:
          rank: {loss: {class_path: align.losses.Hinge, init_args: {negatives: hardest}}, between: [image, text]}

    margin, negatives, sides: as in ``hinge``. Side "a" is the modality that ``between`` names first.
    """

    kind = "pairwise"
    takes_unpaired = True
    in_parts = True
    negative_kinds = ("hardest", "sum")

    def __init__(self, margin: float = 0.2, negatives: Against = "hardest", sides: Sides = "both"):
        super().__init__()
        _check(margin, negatives, sides)
        self.margin = margin
        self.negatives: Against = negatives
        self.sides: Sides = sides

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
        """Return the 0-d loss of two sets of rows: embeddings (n_m, D), samples (n_m,), groups and weights likewise."""
        a, b = embeddings
        return hinge(
            a,
            b,
            margin=self.margin,
            negatives=self.negatives,
            sides=self.sides,
            part=part,
            merge=merge,
            **sides(samples, groups, weights),
        )
