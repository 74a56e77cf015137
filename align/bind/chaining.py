"""Pseudo-pairs: rows of unpaired sets, chained through the rows of the modality that their spaces share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

CELLS = 1 << 22  # cosines held at a time

Rows = Mapping[str, Tensor]
"""Space -> (n, W_k): the embeddings of n items of a modality in each of its spaces."""


class Chains(NamedTuple):
    """Pseudo-pairs of S items that a chain begins with.

    start: (S,) place of the item's modality in the list of starts. row: modality -> (S,) its row, -1 for none.
    cosine: modality -> (S,) of the retrieval that found the row, 1 for the item itself, 0 for none.
    """

    start: Tensor
    row: dict[str, Tensor]
    cosine: dict[str, Tensor]

    def take(self, kept: Tensor) -> Chains:
        """Return some chains, by a mask."""
        return Chains(
            self.start[kept],
            {m: x[kept] for m, x in self.row.items()},
            {m: x[kept] for m, x in self.cosine.items()},
        )


def find_nearest(asked: Rows, given: Rows) -> tuple[Tensor, Tensor]:
    """Return the nearest given row of each asked row, (q,), and its cosine, (q,), the mean over the common spaces.

    Of equal rows it is the first. Rows need no length of 1. Raises ValueError where the two have no space in common.
    """
    common = [space for space in asked if space in given]
    if not common:
        raise ValueError(f"{', '.join(asked)} and {', '.join(given)} have no space in common")
    sides = [{k: F.normalize(x[k].float(), dim=1) for k in common} for x in (asked, given)]
    q, c = (len(side[common[0]]) for side in sides)
    row, best = torch.empty(q, dtype=torch.int64), torch.empty(q)
    for at in torch.arange(q).split(max(1, CELLS // max(1, c))):
        cosines = torch.stack([sides[0][k][at] @ sides[1][k].T for k in common]).mean(0)  # (rows, c)
        best[at] = cosines.amax(1)
        row[at] = (cosines == best[at][:, None]).byte().argmax(1)
    return row, best


def chain_items(sets: Mapping[str, Rows], via: str, starts: Sequence[str], bound: float) -> Chains:
    """Return the pseudo-pairs that begin with each row of the modalities ``starts`` (OmniBind, Wang et al. 2024,
    arXiv:2407.11895, its pseudo item pairs; FreeBind's pass through the shared modality, arXiv:2405.04883).

    A row finds the nearest row of the shared modality ``via`` in its space. That row finds the nearest row of each
    other modality. A row of ``via`` begins with itself. A retrieval whose cosine is below ``bound`` finds nothing, and
    an item that finds no other row is left out.

    sets: modality -> space -> (n, W_k), a row for each item. The sets share no item.
    """
    others = [m for m in sets if m != via]
    found = {m: find_nearest(sets[via], sets[m]) for m in others}  # from each row of via, once for all starts
    parts = [_begin(sets, via, m, bound, found, i) for i, m in enumerate(starts)]
    chains = Chains(
        torch.cat([part.start for part in parts]),
        {m: torch.cat([part.row[m] for part in parts]) for m in sets},
        {m: torch.cat([part.cosine[m] for part in parts]) for m in sets},
    )
    rows = torch.stack([x >= 0 for x in chains.row.values()]).sum(0)
    return chains.take(rows >= 2)


def _begin(
    sets: Mapping[str, Rows],
    via: str,
    start: str,
    bound: float,
    found: Mapping[str, tuple[Tensor, Tensor]],
    number: int,
) -> Chains:
    n = len(next(iter(sets[start].values())))
    itself, one = torch.arange(n), torch.ones(n)
    through, cosine = (itself, one) if start == via else find_nearest(sets[start], sets[via])
    goes_on = cosine >= bound
    row, score = {}, {}
    for m in sets:
        if m in (start, via):
            row[m], score[m] = (itself, one) if m == start else (through, cosine)
        else:
            row[m], score[m] = (x[through] for x in found[m])
        kept = torch.ones_like(goes_on) if m == start else goes_on & (score[m] >= bound)
        row[m], score[m] = torch.where(kept, row[m], -1), torch.where(kept, score[m], 0)
    return Chains(torch.full((n,), number), row, score)
