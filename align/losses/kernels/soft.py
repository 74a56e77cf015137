"""Contrast of two sets of rows whose targets are shares of classes, not pairs of one sample."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from align.losses.kernels.merging import log_sum_over_parts, sum_over_parts
from align.losses.kernels.numerics import nothing
from align.losses.kernels.pairing import weighted_mean
from align.losses.kernels.parts import Merge, share
from align.losses.kernels.rule import find_left_out


def soft_pairs(
    a: Tensor,
    b: Tensor,
    scale: Tensor,
    of_a: Tensor,
    of_b: Tensor,
    *,
    groups: Sequence[Tensor] | None = None,
    weights: Sequence[Tensor],
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
) -> Tensor:
    """Return the mean of both directions' cross-entropies against soft targets; a 0-d tensor.

    With s_ij = scale·⟨a_i, b_j⟩ and T_ij = Σ_c of_a[i, c]·of_b[j, c], an anchor costs
    Σ_j T_ij (log Σ_k exp s_ik - s_ij) / Σ_j T_ij. A direction is the weighted mean over the anchors with a target. With
    one class a row it is ``infonce`` with the classes as samples.

    a: (n_a, D), b: (n_b, D), of one dtype, float32 at least.
    of_a: (n_a, C), of_b: (n_b, C) shares of at least 0, which get no gradient.
    groups: (n,) ids a side. A pair of one group without a target is left out. weights: (n,) a side.
    part, merge: as in ``infonce``. A part makes its share of the rows of one matrix.
    """
    if not len(a) or not len(b):
        return nothing(a, b, scale)
    here = slice(*share(len(a), part))
    target = of_a.detach()[here] @ of_b.detach().T  # (t, n_b)
    logits = scale * a[here] @ b.T  # (t, n_b)
    left_out = find_left_out(target > 0, groups, None, here)
    if left_out is not None:
        logits = logits.masked_fill(left_out, torch.finfo(logits.dtype).min)
    pulled = torch.where(target > 0, target * logits, 0)
    there = target.sum(1)
    losses = logits.logsumexp(1) - pulled.sum(1) / torch.where(there > 0, there, 1)
    value = weighted_mean(losses, weights[0][here], there > 0, merge)
    back = sum_over_parts(target.sum(0), merge)
    losses = log_sum_over_parts(logits, 0, merge) - sum_over_parts(pulled.sum(0), merge) / torch.where(
        back > 0, back, 1
    )
    return (value + weighted_mean(losses, weights[1], back > 0)) / 2 + nothing(a, b, scale)
