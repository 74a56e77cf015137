"""Sets of three rows drawn from labels: two of one class, and one of another."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from align.evaluation.hits import Rule, equal_keys
from align.values import Embeddings

BLOCK = 256  # references at a time


class Drawn(NamedTuple):
    """Rows in the tables of their modalities, (n,) each: a reference, one like it, and one of another class."""

    reference: Tensor
    alike: Tensor
    other: Tensor


def draw_sets(
    table: Embeddings,
    modalities: tuple[str, str, str],
    rule: Rule,
    known: Tensor,
    n: int,
    draw: torch.Generator,
    *,
    itself: bool = False,
) -> Drawn:
    """Return at most n sets of rows of three modalities: reference, alike, other.

    References are drawn with replacement among the rows of known samples. The row that is alike is one of all rows
    that are hits, of another sample, and of other content than the reference. The other is one of all rows of known
    samples that are no hits. A reference without one of the two is left out.

    rule: the hit rule over samples. known: (B,) bool, samples that have a class. itself: the row that is alike may be
    of the reference's own sample.
    """
    asks, alike, other = (table[m] for m in modalities)
    known = torch.cat([known, torch.tensor([False])])  # sample -1 has no class
    eligible = known[asks.sample].nonzero().flatten()
    chances = torch.rand(3, n if len(eligible) else 0, generator=draw, dtype=torch.float64)
    reference = eligible[(chances[0] * len(eligible)).long()]
    parts = [Drawn(*(reference[:0],) * 3)]
    for at in torch.arange(len(reference)).split(BLOCK):
        rows, sample = reference[at], asks.sample[reference[at]]
        right = rule(sample, alike.sample) & known[alike.sample]
        if not itself:
            right &= ~equal_keys(sample, alike.sample)
        if modalities[0] == modalities[1] and asks.content is not None:
            right &= ~equal_keys(asks.content[rows], asks.content)
        wrong = ~rule(sample, other.sample) & known[other.sample]
        has = right.any(dim=1) & wrong.any(dim=1)
        found = (pick(mask[has], chances[i, at][has]) for i, mask in ((1, right), (2, wrong)))
        parts.append(Drawn(rows[has], *found))
    return Drawn(*(torch.cat(column) for column in zip(*parts, strict=True)))


def pick(mask: Tensor, chance: Tensor) -> Tensor:
    """Return (q,) int64, one of the places of each row that are true, by a number (q,) in [0, 1).

    >>> pick(torch.tensor([[False, True, True]] * 2), torch.tensor([0.4, 0.6])).tolist()
    [1, 2]
    """
    number = (chance * mask.sum(dim=1)).long()  # of the place, from 0
    return (mask.cumsum(dim=1) > number[:, None]).int().argmax(dim=1)
