"""Learned rows that stand in for the modalities that a sample lacks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def fill_missing(
    xs: Sequence[Tensor],
    samples: Sequence[Tensor],
    groups: Sequence[Tensor] | None,
    weights: Sequence[Tensor],
    stand_ins: Sequence[Tensor],
) -> tuple[list[Tensor], list[Tensor], list[Tensor] | None, list[Tensor]]:
    """Return the rows with a stand-in (D,) for each modality that a sample lacks, where the sample has two or more.

    xs: M tensors (n_m, D). samples, groups, weights: M tensors (n_m,). An added row belongs to the sample. It has the
    group and the weight of the sample's first row in the first other modality that has one.
    """
    every = torch.cat([s[s >= 0] for s in samples]).unique()  # (U,)
    has = torch.stack([torch.isin(every, s) for s in samples])  # (M, U)
    lacks = ~has & (has.sum(0) >= 2)
    added = [every[row] for row in lacks]
    rows = [torch.cat([x, y.to(x).expand(len(s), -1)]) for x, y, s in zip(xs, stand_ins, added, strict=True)]
    ids = [torch.cat([s, more]) for s, more in zip(samples, added, strict=True)]

    def of_samples(columns: Sequence[Tensor]) -> list[Tensor]:
        known = columns[0].new_zeros(len(every))
        for sample, column in reversed([*zip(samples, columns, strict=True)]):  # the first modality wins
            place = torch.searchsorted(every, sample.clamp(min=0)).clamp(max=max(len(every) - 1, 0))
            real = sample >= 0
            known[place[real].flip(0)] = column[real].flip(0)  # as does its first row
        return [torch.cat([c, known[row]]) for c, row in zip(columns, lacks, strict=True)]

    return rows, ids, None if groups is None else of_samples(groups), of_samples(weights)


def match_lengths(stand_ins: Tensor, embeddings: Sequence[Tensor]) -> list[Tensor]:
    """Return the directions (M, D) at the mean length of each modality's rows, or of all rows where it has none."""
    lengths = [x.detach().norm(dim=1) for x in embeddings]
    every = torch.cat(lengths)
    means = [(n if len(n) else every).mean() if len(every) else every.new_ones(()) for n in lengths]
    return [F.normalize(x, dim=0) * mean for x, mean in zip(stand_ins, means, strict=True)]
