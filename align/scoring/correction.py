"""Corrections of scores for hubs: one number for each candidate, which is taken from its scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor


@final
@dataclass(frozen=True)
class Correction:
    """Numbers by which candidates of one modality are corrected for queries of another.

    shift: (c,) float32, taken from each score of a candidate. active: (c,) bool, or None. With it the correction counts
    only for queries whose best candidate is active. settings: the method's, as plain data.
    """

    name: str
    shift: Tensor
    active: Tensor | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def correct(scores: Tensor, correction: Correction) -> Tensor:
    """Return the corrected scores (q, c), in the dtype of the scores.

    Of several candidates that are a query's best with equal scores, one that is active is enough. Raises ValueError
    where the correction is of another number of candidates.
    """
    if scores.ndim != 2 or scores.shape[1] != len(correction.shift):
        raise ValueError(
            f"the correction {correction.name!r} is of {len(correction.shift)} candidates; got scores"
            f" {tuple(scores.shape)}"
        )
    moved = scores - correction.shift.to(scores)
    if correction.active is None or not scores.shape[1]:
        return moved
    best = scores == scores.amax(1, keepdim=True)
    counts = (best & correction.active.to(scores.device)).any(1, keepdim=True)  # (q, 1)
    return torch.where(counts, moved, scores)
