"""Pairing of rows by their ids: tuples of one sample, sums over each anchor's tuples, and means over the anchors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from align.losses.kernels.merging import sum_over_parts
from align.losses.kernels.parts import Merge


def equal(a: Tensor, b: Tensor) -> Tensor:
    """Return where two broadcast tensors of ids are equal, as bool. A negative id equals nothing, not even itself."""
    return (a == b) & (a >= 0)


def same(a: Tensor, b: Tensor) -> Tensor:
    """Return (n_a, n_b) bool: equal ids. A negative id equals nothing, not even itself."""
    return equal(a[:, None], b[None, :])


def complete_tuples(samples: Sequence[Tensor]) -> Tensor:
    """Return the rows of every tuple of one sample, (C, M) int64, the first modality's row slowest.

    samples: M tensors (n_m,) of ids. A negative id belongs to no sample. It sorts: memory C·M, no matrix.
    """
    rows = (samples[0] >= 0).nonzero()  # (C, 1)
    for sample in samples[1:]:
        wanted = samples[0][rows[:, 0]]
        ordered, order = sample.sort(stable=True)
        first = torch.searchsorted(ordered, wanted)
        count = torch.searchsorted(ordered, wanted, right=True) - first
        before = count.cumsum(0) - count
        left = torch.arange(len(rows), device=rows.device).repeat_interleave(count)
        right = order[first[left] + torch.arange(len(left), device=rows.device) - before[left]]
        rows = torch.cat([rows[left], right[:, None]], dim=1)
    return rows


def counterparts(sample: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows (P,) and the teacher's rows (P,): the k-th of a sample with the teacher's k-th of it."""
    ordered, order = teacher.sort(stable=True)
    first = torch.searchsorted(ordered, sample)  # (n,) the place of the sample's first row
    place = first + _turns(sample)
    there = (place < torch.searchsorted(ordered, sample, right=True)) & (sample >= 0)
    rows = there.nonzero().squeeze(1)
    return rows, order[place[rows]]


def _turns(ids: Tensor) -> Tensor:
    """Return how many rows before each one have its id, (n,). It sorts: memory n, no matrix."""
    ordered, order = ids.sort(stable=True)
    place = torch.arange(len(ids), device=ids.device) - torch.searchsorted(ordered, ordered)
    return torch.empty_like(place).index_copy_(0, order, place)


def by_anchor(values: Tensor, anchor: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the number (n,) of values (C,) that each anchor (C,) in 0..n-1 has, and their mean (n,), 0 for none."""
    count = values.new_zeros(n).index_add(0, anchor, torch.ones_like(values))
    total = values.new_zeros(n).index_add(0, anchor, values)
    return count, total / count.clamp(min=1)


def log_sum_by_anchor(logits: Tensor, anchor: Tensor, n: int) -> Tensor:
    """Return log Σ exp of the logits (C,) of each anchor (C,) in 0..n-1, (n,), the smallest number for none."""
    bounds = torch.finfo(logits.dtype)
    top = logits.new_full((n,), bounds.min).scatter_reduce(0, anchor, logits.detach(), "amax")
    total = logits.new_zeros(n).index_add(0, anchor, (logits - top[anchor]).exp())
    return total.clamp(min=bounds.tiny).log() + top


def weighted_mean(losses: Tensor, weights: Tensor, found: Tensor, merge: Merge | None = None) -> Tensor:
    """Return Σ w·l / Σ w over the anchors that were found, all (n,). It is a differentiable zero where none counts.

    merge: joins the sums, where the anchors are shared out.
    """
    weights = torch.where(found, weights, 0)
    total = sum_over_parts(weights.sum(), merge)
    return sum_over_parts((weights * torch.where(found, losses, 0)).sum(), merge) / torch.where(total == 0, 1, total)
