"""Exact search over mapped segments."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from align.search.exact import find_best, join_best
from align.search.local.segments import Mapped
from align.values import Rows


def search_segments(
    query: Tensor,
    segments: Sequence[Mapped],
    k: int,
    passed: Tensor | None,
    *,
    scaled: bool = False,
    shifts: Sequence[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the scores (q, k) and the samples (q, k), best first, see ``Index.search``. Blocks are copied, no segment.

    passed: for each sample number whether it may be found, or None for all. shifts: (n,) numbers of each segment's
    rows that are taken from their products.
    """
    pieces = [
        find_best(
            query,
            values,
            sample,
            k,
            norm=norm if scaled else None,
            keep=None if passed is None else passed[sample],
            shift=None if shifts is None else shifts[i],
        )
        for i, (values, norm, sample) in enumerate(segments)
    ]
    some = [piece for piece in pieces if piece[0].shape[1]]
    return join_best(some, k) if len(some) > 1 else (some or pieces)[0]


def pick_rows(
    segments: Sequence[Mapped], wanted: Tensor, alive: Tensor | None, dim: int, *, scaled: bool = True
) -> Rows:
    """Return the rows of samples: values (n, D), and the samples' numbers, ascending.

    wanted: numbers in ascending order. alive: for each number whether it may be found, or None for all.
    scaled: rows have their norm. Otherwise they are the stored unit vectors, to the bit.
    """
    if alive is not None:
        wanted = wanted[(wanted >= 0) & (wanted < len(alive))]
        wanted = wanted[alive[wanted]]
    values, sample = [torch.empty(0, dim)], [torch.empty(0, dtype=torch.long)]
    for rows in segments:
        start = torch.searchsorted(rows.sample, wanted)
        many = torch.searchsorted(rows.sample, wanted, right=True) - start
        within = torch.arange(int(many.sum())) - (many.cumsum(0) - many).repeat_interleave(many)
        at = start.repeat_interleave(many) + within
        picked = rows.values[at].float()
        values.append(picked * rows.norm[at, None] if scaled else picked)
        sample.append(rows.sample[at])
    numbers = torch.cat(sample)
    order = numbers.argsort(stable=True)
    return Rows(torch.cat(values)[order], numbers[order])
