"""Candidates that an anchor does not meet: rows of its group that are not its sample's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from align.losses.kernels.multiply import multiply
from align.losses.kernels.numerics import at_least_float32
from align.losses.kernels.pairing import equal, same
from align.losses.kernels.products import wide_dtype
from align.losses.kernels.rule import Rule, find_left_out
from align.losses.kernels.slabs import Slab


@final
class Alike:
    """Rule that forbids an anchor the tuples whose every row shares its sample or its group.

    Tuples whose every row shares its sample are the anchor's positives and stay.

    samples, groups: M tensors (n_m,) of ids. A negative id equals nothing.
    rule: more pairs to forbid, for two sides (M = 2).
    """

    def __init__(self, samples: Sequence[Tensor], groups: Sequence[Tensor] | None, rule: Rule | None = None):
        self.samples, self.groups, self.rule = samples, groups, rule

    def __call__(self, logits: Tensor, m: int, slab: Slab) -> None:
        """Set the logits (J, t, n_v) of a slab that anchor modality m must not see to -inf, in place."""
        if self.rule is not None or self.groups is None:
            self._forbid_pairs(logits, slab)
            return
        place = {o: slab.rows(o, len(x), logits.device) for o, x in enumerate(self.samples)}
        positive, alike = (torch.ones((), dtype=torch.bool, device=logits.device) for _ in range(2))
        for o in place.keys() - {m}:
            belongs = equal(self.samples[m][place[m]], self.samples[o][place[o]])
            positive = positive & belongs
            alike = alike & (belongs | equal(self.groups[m][place[m]], self.groups[o][place[o]]))
        logits.masked_fill_(alike & ~positive, -torch.inf)

    def _forbid_pairs(self, logits: Tensor, slab: Slab) -> None:
        """Do the same for two sides with a rule."""
        near, far = slice(slab.start, slab.stop), slab.columns
        i, j = (near, far) if slab.u == 0 else (far, near)
        positive = same(self.samples[0][i], self.samples[1][j])
        left_out = find_left_out(positive, self.groups, self.rule, i, j)
        if left_out is not None:
            logits.masked_fill_(left_out if slab.u == 0 else left_out.T, -torch.inf)


def mean_candidate(
    embeddings: Sequence[Tensor], m: int, samples: Sequence[Tensor], groups: Sequence[Tensor] | None
) -> Tensor:
    """Return the mean of <x_i, y_j> over anchor i's candidates j on the other of two sides, (n_m,).

    It takes sums over groups, and no matrix.
    """
    x, y = embeddings[m], embeddings[1 - m]
    if groups is None:
        mean = y.mean(0, dtype=wide_dtype(y))
        return x @ mean if x.dtype == mean.dtype else multiply(x, mean[None]).squeeze(1)
    x, y = at_least_float32([x, y])
    left_out, count = _sum_of_equals(groups[m][:, None], groups[1 - m][:, None], y)
    kept = [torch.stack([groups[o], samples[o]], 1) for o in (m, 1 - m)]
    positive, positives = _sum_of_equals(kept[0], kept[1], y)
    total = y.sum(0) - left_out + positive  # (n_m, D)
    return (x * total).sum(1) / (len(y) - count + positives).clamp(min=1)


def _sum_of_equals(keys: Tensor, others: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum (n, D) and number (n,) of the rows y (n_y, D) whose key (n_y, K) is a row's key (n, K)."""
    _, index = torch.cat([keys, others]).unique(dim=0, return_inverse=True)
    row, other = index[: len(keys)], index[len(keys) :]
    real = (others >= 0).all(1).to(y.dtype)
    size = len(index)
    total = y.new_zeros(size, y.shape[1]).index_add(0, other, y * real[:, None])
    count = y.new_zeros(size).index_add(0, other, real)
    valid = (keys >= 0).all(1).to(y.dtype)
    return total[row] * valid[:, None], count[row] * valid
