"""The choice of the gallery's queries, and the search for their nearest answers.

Answers are distinct samples by cosine, and a sample's best row counts. Ties never help: of equal scores the wrong
answer stands first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from align.values import Rows

Hit = Callable[[int, int], bool] | Sequence[Any] | Tensor
"""``hit(i, j)`` of two samples in 0..B-1, or B groups, of which equal ones hit (None or -1: no group)."""


class Found(NamedTuple):
    """An answer: a sample in 0..B-1, its cosine, and True if it counts as right."""

    sample: int
    score: float
    hit: bool


def nearest(of: Rows, to: Rows, sample: int, right: Tensor, k: int) -> list[Found]:
    """Return the k samples whose best row of ``to`` is nearest to the first row of ``sample`` in ``of``, in order.

    of.values, to.values: (n,D). right: (B,) bool, the samples that are hits.
    """
    a, b, known = _tensor(of), _tensor(to), to.sample >= 0
    query = F.normalize(a[of.sample == sample][0].float(), dim=0)  # (D,)
    cosine = F.normalize(b[known].float(), dim=1) @ query  # (n,)
    best = cosine.new_full((len(right),), -torch.inf).scatter_reduce_(0, to.sample[known], cosine, "amax")  # (B,)
    order = right.long().argsort(stable=True)  # the wrong ones first: a stable sort leaves them before their equals
    order = order[best[order].argsort(descending=True, stable=True)][:k]
    return [Found(int(s), float(best[s]), bool(right[s])) for s in order if best[s] > -torch.inf]


def hits(rule: Hit | None, B: int) -> Callable[[int], Tensor]:
    """Return the rule as a function: sample -> (B,) bool, the samples that hit. A sample always hits itself."""
    if rule is not None and not isinstance(rule, Tensor) and callable(rule):
        return lambda sample: torch.tensor([j == sample or bool(rule(sample, j)) for j in range(B)])
    group = [None] * B if rule is None else rule.tolist() if isinstance(rule, Tensor) else rule
    if len(group) != B:
        raise ValueError(f"hit has {len(group)} groups for {B} samples; give one a sample")

    def right(sample: int) -> Tensor:
        if group[sample] is None or group[sample] == -1:
            out = torch.zeros(B, dtype=torch.bool)
        else:
            out = torch.tensor([g == group[sample] for g in group])
        out[sample] = True
        return out

    return right


def spread(table: Mapping[str, Rows], of: str, B: int, queries: int) -> list[int]:
    """Return the samples to ask about in ``of``: those with the most modalities, evenly spread over the table."""
    has = torch.zeros(len(table), B, dtype=torch.bool)
    for i, rows in enumerate(table.values()):
        has[i, rows.sample[rows.sample >= 0].cpu()] = True
    count = has.sum(dim=0) * has[list(table).index(of)]  # (B,), 0 where there is no row of `of`
    picked: list[int] = []
    for c in range(len(table), 0, -1):
        pool = (count == c).nonzero().flatten().tolist()
        take = min(queries - len(picked), len(pool))
        picked += [pool[i * len(pool) // take] for i in range(take)]
    return picked


def _tensor(rows: Rows) -> Tensor:
    if not isinstance(rows.values, Tensor):
        raise TypeError("embeddings are tensors (n, D), not dicts")
    return rows.values
