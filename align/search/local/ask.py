"""Exact search over mapped segments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from align.search.exact import find_best
from align.search.local.segments import Mapped
from align.values import Rows

BLOCK = 1 << 16  # rows that are scored, or gathered, at a time
SPARSE = 0.5  # share of rows that pass, below which they are gathered before they are scored


def search_segments(
    query: Tensor, segments: Sequence[Mapped], k: int, passed: Tensor | None, *, scaled: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the scores (q, k) and the samples (q, k), best first, see ``Index.search``.

    passed: for each sample number whether it may be found, or None for all.
    """
    q = len(query)
    best, found = torch.empty(q, 0), torch.empty(q, 0, dtype=torch.long)
    for values, sample in _blocks(segments, passed, scaled):
        scores, samples = find_best(query, values, sample, k)
        best, found = merge(torch.cat([best, scores.cpu()], 1), torch.cat([found, samples.cpu()], 1), k)
    return best, found


def pick_rows(segments: Sequence[Mapped], wanted: Tensor, alive: Tensor | None, dim: int) -> Rows:
    """Return the rows of samples, each with its norm: values (n, D), and the samples' numbers, ascending.

    wanted: numbers in ascending order. alive: for each number whether it may be found, or None for all.
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
        values.append(rows.values[at].float() * rows.norm[at, None])
        sample.append(rows.sample[at])
    numbers = torch.cat(sample)
    order = numbers.argsort(stable=True)
    return Rows(torch.cat(values)[order], numbers[order])


def merge(best: Tensor, found: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k best of candidates (q, c), in which a sample may stand several times: its best score counts."""
    order = best.argsort(dim=1, descending=True, stable=True)
    best, found = best.gather(1, order), found.gather(1, order)
    order = found.argsort(dim=1, stable=True)  # a sample's best first
    best, found = best.gather(1, order), found.gather(1, order)
    again = torch.zeros_like(found, dtype=torch.bool)
    again[:, 1:] = found[:, 1:] == found[:, :-1]
    best = best.masked_fill(again, -torch.inf)
    most = int((~again).sum(1).max()) if found.numel() else 0
    order = best.argsort(dim=1, descending=True, stable=True)[:, : min(k, most)]
    return best.gather(1, order), found.gather(1, order)


def _blocks(segments: Sequence[Mapped], passed: Tensor | None, scaled: bool) -> Iterator[tuple[Tensor, Tensor]]:
    for values, norm, sample in segments:
        for start in range(0, len(sample), BLOCK):
            block, numbers = values[start : start + BLOCK], sample[start : start + BLOCK]
            length = norm[start : start + BLOCK]
            if passed is not None:
                keep = passed[numbers]
                if not keep.all():
                    chosen = keep.nonzero()[:, 0]
                    block, numbers, length = block[chosen], numbers[chosen], length[chosen]
            if len(numbers):
                yield (block.float() * length[:, None] if scaled else block), numbers
