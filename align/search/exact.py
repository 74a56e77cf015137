"""Exact search: the best samples of a query vector, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

block = 32768  # rows scored at a time


def find_best(
    query: Tensor,
    values: Tensor,
    sample: Tensor,
    k: int,
    *,
    norm: Tensor | None = None,
    keep: Tensor | None = None,
    shift: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the scores (q, k) and the samples (q, k), best first, by the inner product with each row.

    A sample counts by its best row. Among equal scores the lower number comes first. Fewer samples than k give fewer
    columns. A block is scored in float32 on the query's device. The rows that rounding leaves in question are scored
    in float64, and that score is rounded to float32: the order is the exact one, and equal rows have equal scores.

    query: (q, D), values: (n, D) on any device, memory-mapped or not, sample: (n,) numbers in ascending order.
    norm: (n,) factors of the rows. keep: (n,) bool, False for rows that do not take part. shift: (n,) numbers that are
    taken from the rows' products.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    device, query = query.device, query.detach()
    wide = query.double()
    best = torch.empty(len(query), 0, device=device)
    found = torch.empty(len(query), 0, dtype=torch.long, device=device)
    for part in _blocks(sample):
        rows, numbers, factor, passed = values[part], sample[part], None if norm is None else norm[part], None
        less = None if shift is None else shift[part]
        if keep is not None and not bool((passed := keep[part]).all()):
            if int(passed.sum()) * 2 < len(passed):  # few: copied together
                rows, numbers, factor = rows[passed], numbers[passed], None if factor is None else factor[passed]
                less, passed = None if less is None else less[passed], None
            if not len(numbers):
                continue
        rows, numbers = rows.to(device).float(), numbers.to(device)
        factor = None if factor is None else factor.to(device)
        less = None if less is None else less.to(device)
        least = best[:, k - 1 : k] if best.shape[1] >= k else best.new_full((len(query), 1), -torch.inf)
        places = _possible(
            query.float(), rows, numbers, k, factor, None if passed is None else passed.to(device), least, less
        )
        scores = wide @ rows[places].double().T  # (q, r)
        if factor is not None:
            scores = scores * factor[places].double()
        if less is not None:
            scores = scores - less[places].double()
        top, named = _by_sample(scores.float(), numbers[places])
        order = torch.cat([best, top], 1).argsort(dim=1, descending=True, stable=True)[:, :k]  # numbers ascend already
        best = torch.cat([best, top], 1).gather(1, order)
        found = torch.cat([found, named.expand(len(query), -1)], 1).gather(1, order)
    return best, found


def join_best(pieces: Sequence[tuple[Tensor, Tensor]], k: int) -> tuple[Tensor, Tensor]:
    """Return the k best of several results of ``find_best``, whose rows may be of the same samples."""
    best, found = (torch.cat(parts, dim=1) for parts in zip(*pieces, strict=True))  # (q, m)
    order = best.argsort(dim=1, descending=True, stable=True)
    best, found = best.gather(1, order), found.gather(1, order)
    order = found.argsort(dim=1, stable=True)  # a sample's best first
    best, found = best.gather(1, order), found.gather(1, order)
    again = torch.zeros_like(found, dtype=torch.bool)
    again[:, 1:] = found[:, 1:] == found[:, :-1]
    most = int((~again).sum(dim=1).min()) if found.numel() else 0
    order = best.masked_fill(again, -torch.inf).argsort(dim=1, descending=True, stable=True)[:, : min(k, most)]
    return best.gather(1, order), found.gather(1, order)


def _blocks(sample: Tensor) -> Iterator[slice]:
    """Yield the rows of each block, which ends where a sample ends."""
    start, n = 0, len(sample)
    while start < n:
        end = min(start + block, n)
        if end < n:
            end = int(torch.searchsorted(sample, sample[end - 1], right=True))
        yield slice(start, end)
        start = end


def _possible(
    query: Tensor,
    rows: Tensor,
    numbers: Tensor,
    k: int,
    factor: Tensor | None,
    passed: Tensor | None,
    least: Tensor,
    less: Tensor | None = None,
) -> Tensor:
    """Return the rows (r,) that can be among the k best of a query, in float32 with its rounding error.

    least: (q, 1), the k-th best score so far. less: (rows,) numbers that are taken from the scores.
    """
    if len(query) == 1 and query.device.type == "cpu":  # NumPy's product with one vector takes .57 of torch's time
        scores = torch.from_numpy(rows.numpy() @ query[0].numpy())[None]
    else:
        with torch.autocast(query.device.type, enabled=False):
            scores = query @ rows.T  # (q, rows of the block)
    longest = 1.0
    if factor is not None:
        scores, longest = scores * factor, max(1.0, float(factor.max()))
    if less is not None:
        scores = scores - less
    if passed is not None:
        scores = scores.masked_fill(~passed, -torch.inf)
    per = _by_sample(scores, numbers)[0]
    if per.shape[1] > k:
        least = torch.maximum(least, per.topk(k, dim=1).values[:, -1:])
    error = 2 * torch.finfo(torch.float32).eps * query.shape[1] * query.norm(dim=1, keepdim=True) * longest
    if less is not None and len(less):
        error = error + 2 * torch.finfo(torch.float32).eps * less.abs().max()
    return ((scores >= least - error) & (scores > -torch.inf)).any(dim=0).nonzero().flatten()


def _by_sample(scores: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Return the best score of each sample (q, m) and the samples (m,). numbers: (r,) in ascending order."""
    if bool((numbers[1:] != numbers[:-1]).all()):
        return scores, numbers
    named, place = numbers.unique_consecutive(return_inverse=True)
    worst = scores.new_full((len(scores), len(named)), -torch.inf)
    return worst.scatter_reduce_(1, place.expand(len(scores), -1), scores, "amax"), named
