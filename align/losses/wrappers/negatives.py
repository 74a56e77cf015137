"""Rows that a wrapper adds as negatives: no sample's, and no anchors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from align.losses.pairing import row_weights


class Enlarged(NamedTuple):
    """What a loss is called with once negatives have been added; each of M tensors, n_m + k_m first."""

    embeddings: list[Tensor]
    samples: list[Tensor]
    groups: list[Tensor] | None
    weights: list[Tensor]


def with_negatives(
    embeddings: Sequence[Tensor],
    samples: Sequence[Tensor],
    groups: Sequence[Tensor] | None,
    weights: Sequence[Tensor] | None,
    added: Sequence[Tensor],
    added_groups: Sequence[Tensor],
) -> Enlarged:
    """The rows with k_m more after them: of sample id -1 and weight 0.

    Weight 0 is for losses that sum over pairs, as SigLIP does: a pair of two added rows then counts nothing, a pair of
    a real and an added row the real row's half, and the divisor stays that of the real rows.
    added: M tensors (k_m, D), added_groups: (k_m,); the groups are dropped where the rows have none.
    """
    plain = [row_weights(weights[m] if weights else None, x, f"weights[{m}]") for m, x in enumerate(embeddings)]
    return Enlarged(
        [torch.cat([x, more]) for x, more in zip(embeddings, added, strict=True)],
        [torch.cat([ids, ids.new_full((len(more),), -1)]) for ids, more in zip(samples, added, strict=True)],
        None if groups is None else [torch.cat(pair) for pair in zip(groups, added_groups, strict=True)],
        [torch.cat([w, w.new_zeros(len(more))]) for w, more in zip(plain, added, strict=True)],
    )
