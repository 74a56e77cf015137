"""A rule about pairs of rows of two sides, beside their samples and groups: which pairs are no negatives.

It is evaluated for one block of pairs at a time, so no matrix of all pairs is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor

from align.losses.kernels.pairing import same


class Seen(NamedTuple):
    """Cosines that a negative may have, between rows of one modality, and those rows for both sides.

    side: the side, 0 or 1, whose rows are of that modality.
    rows: (n, D) the rows of that side. inverse: (n,) one over their lengths.
    counterparts: (K, n', D) unit rows of that modality that belong to each row of the other side. NaN: there is none.
    low, high: a pair counts if the largest of its K cosines lies between them, ends included.
    """

    side: int
    rows: Tensor
    inverse: Tensor
    counterparts: Tensor
    low: float
    high: float

    def outside(self, i: slice, j: slice) -> Tensor:
        """Return (t_a, t_b) bool, True where the cosine of rows i and j lies outside. A zero row has no cosine."""
        near, far = (j, i) if self.side else (i, j)  # of this side, of the other
        rows, scale = self.rows[near].T, self.inverse[near]
        best = (self.counterparts[0, far] @ rows).mul_(scale)  # (t', t)
        for more in self.counterparts[1:]:
            best = torch.maximum(best, (more[far] @ rows).mul_(scale))
        out = (best > self.high) | (best < self.low)
        return out if self.side else out.T


@final
@dataclass(frozen=True)
class Rule:
    """Pairs of two sides that are no negatives, and pairs that are negatives in any case. Positives stay positives.

    alike: for each side ids (n, K). Rows that share an id are no negatives. Id -1 is no id.
    seen: see ``Seen``.
    against: for each side ids (n,). Rows of an equal id are negatives, whatever the groups and ``alike`` say.
    """

    alike: tuple[Tensor, Tensor] | None = None
    seen: Seen | None = None
    against: tuple[Tensor, Tensor] | None = None

    def __call__(self, left_out: Tensor, i: slice, j: slice) -> Tensor:
        """Return the pairs of rows i and j that are no negatives, (t_a, t_b) bool, beside those of ``left_out``."""
        if self.alike is not None:
            for a in self.alike[0][i].unbind(1):
                for b in self.alike[1][j].unbind(1):
                    left_out = left_out | same(a, b)
        if self.seen is not None:
            left_out = left_out | self.seen.outside(i, j)
        if self.against is not None:
            left_out = left_out & ~same(self.against[0][i], self.against[1][j])
        return left_out

    @property
    def leaves_out(self) -> bool:
        """True where the rule can leave pairs out. A rule with ``against`` alone leaves none out."""
        return self.alike is not None or self.seen is not None

    def swap(self) -> Rule:
        """Return the rule for the two sides in the other order."""
        seen = None if self.seen is None else self.seen._replace(side=1 - self.seen.side)
        alike = None if self.alike is None else (self.alike[1], self.alike[0])
        return Rule(alike, seen, None if self.against is None else (self.against[1], self.against[0]))

    def pad(self, more: Sequence[int]) -> Rule:
        """Return the rule for sides with so many more rows at their ends, to which it does not apply."""
        rule = self
        if rule.alike is not None:
            a, b = (F.pad(ids, (0, 0, 0, k), value=-1) for ids, k in zip(rule.alike, more, strict=True))
            rule = replace(rule, alike=(a, b))
        if rule.against is not None:
            a, b = (F.pad(ids, (0, k), value=-1) for ids, k in zip(rule.against, more, strict=True))
            rule = replace(rule, against=(a, b))
        if rule.seen is not None:
            near, far = more[rule.seen.side], more[1 - rule.seen.side]
            rows, inverse = F.pad(rule.seen.rows, (0, 0, 0, near)), F.pad(rule.seen.inverse, (0, near), value=torch.nan)
            counterparts = F.pad(rule.seen.counterparts, (0, 0, 0, far), value=torch.nan)
            rule = replace(rule, seen=rule.seen._replace(rows=rows, inverse=inverse, counterparts=counterparts))
        return rule


def find_left_out(
    positive: Tensor,
    groups: Sequence[Tensor] | None,
    rule: Rule | None,
    i: slice = slice(None),
    j: slice = slice(None),
) -> Tensor | None:
    """Return the pairs (t_a, t_b) of rows i and j that are neither positive nor negative. None: there are none.

    positive: (t_a, t_b) bool. groups: the ids (n,) of each side.
    """
    if rule is None:
        return None if groups is None else same(groups[0][i], groups[1][j]) & ~positive
    alike = torch.zeros_like(positive) if groups is None else same(groups[0][i], groups[1][j])
    return rule(alike, i, j) & ~positive
