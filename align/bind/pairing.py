"""Pairs of rows of two columns, and the samples that are held out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from align.bind.matching import Side
from align.seeds import derive


def average_rows(side: Side) -> Side:
    """Return one row a sample, the mean of its rows. side: samples in ascending order."""
    sample, counts = side.sample.unique_consecutive(return_counts=True)
    if len(sample) == len(side.sample):
        return side
    of = torch.arange(len(sample)).repeat_interleave(counts)
    total = torch.zeros(len(sample), side.values.shape[1], dtype=torch.float64).index_add_(0, of, side.values.double())
    first = counts.cumsum(0) - counts
    return Side((total / counts[:, None]).to(torch.float32), sample, side.group[first])


def keep_both(a: Side, b: Side) -> tuple[Side, Side]:
    """Return the rows of the samples that both sides have."""
    return a.take(torch.isin(a.sample, b.sample)), b.take(torch.isin(b.sample, a.sample))


def pair_rows(a: Side, b: Side) -> tuple[Tensor, Tensor]:
    """Return the indices (n,) of both sides of every pair: each row of a sample in a with each of its rows in b.

    a, b: samples in ascending order, the same ones on both sides.
    """
    counts_a, counts_b = (x.sample.unique_consecutive(return_counts=True)[1] for x in (a, b))
    first_b = counts_b.cumsum(0) - counts_b
    of = torch.arange(len(counts_a)).repeat_interleave(counts_a)  # (rows of a,) place of the sample
    times = counts_b[of]
    at_a = torch.arange(len(of)).repeat_interleave(times)
    before = times.cumsum(0) - times
    at_b = first_b[of[at_a]] + torch.arange(len(at_a)) - before[at_a]
    return at_a, at_b


def order_samples(names: Sequence[str], seed: int) -> Tensor:
    """Return a number (n,) int64 for each name, to order the samples by. Equal names have equal numbers."""
    known = {name: derive("bind", seed, name) for name in dict.fromkeys(names)}
    return torch.tensor([known[name] for name in names], dtype=torch.int64)


def hold_out(order: Tensor, share: float) -> Tensor:
    """Return the samples (n,) bool that are held out: those with the lowest numbers, until they are ``share`` of all.

    order: (n,) of ``order_samples``. Samples with the same number, such as those of one group, are on one side. Raises
    ValueError for a share outside 0..1 and where a side would be empty.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of held-out samples is between 0 and 1; got {share:g}")
    values, counts = order.unique(return_counts=True)  # ascending
    if len(values) < 2:
        raise ValueError(
            f"{len(order)} samples of {len(values)} groups cannot be split, since a group stays on one side; give "
            "another share, or shards with more groups"
        )
    taken = int((counts.cumsum(0) - counts < share * len(order)).sum())
    return order <= values[min(max(taken, 1), len(values) - 1) - 1]
