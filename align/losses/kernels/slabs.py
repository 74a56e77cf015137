"""Slabs of a cube of logits: where each lies, and how it is made.

A slab is one matrix product: the rows of the longest modality u, times one row of each of the rest, against all rows
of v.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from align.losses.kernels.parts import Merge, share

TILE = 2**20  # entries of a slab, or more so that it has ROWS rows
ROWS = 128
SAFE = 60.0  # the largest |logit| + log of the number of tuples at which exp needs no shift in float32
LIMIT = 2**36  # the most tuples of five modalities or more


class Slab(NamedTuple):
    """The place of a slab: rows start..stop of the modality u, all rows of v, and rest[m], (J,), of each other m."""

    u: int
    v: int
    start: int
    stop: int
    rest: dict[int, Tensor]

    def rows(self, m: int, length: int, device: torch.device) -> Tensor:
        """Return the rows of modality m in this slab, shaped to broadcast over (J, rows of u, rows of v)."""
        if m == self.u:
            return torch.arange(self.start, self.stop, device=device)[None, :, None]
        return torch.arange(length, device=device) if m == self.v else self.rest[m][:, None, None]


Forbid = Callable[[Tensor, int, Slab], None]
"""Rule that sets to -inf, in place, the logits (J, rows of u, rows of v) of tuples that anchor m does not meet."""


@dataclass(frozen=True)
class Plan:
    """The order of a cube's axes, its lengths, and how its slabs are cut."""

    u: int  # the modality with most rows: rows of a slab
    v: int  # the one with most rows of the others: its columns
    rest: list[int]
    lengths: list[int]
    anchors: list[int]
    forbid: Forbid | None
    part: tuple[int, int]
    merge: Merge | None
    tile: int
    shifted: bool  # True: one shift a row. False: exp cannot overflow or vanish

    def slabs(self, device: torch.device) -> Iterator[Slab]:
        """Yield the slabs of this part. It reads no data, so a GPU is never waited for."""
        first, last = share(self.lengths[self.u], self.part)
        combined = math.prod(self.lengths[m] for m in self.rest)
        height = min(self.tile, max(last - first, 1))
        for q in range(0, combined, max(1, self.tile // height)):
            rest, index = {}, torch.arange(q, min(q + max(1, self.tile // height), combined), device=device)
            for m in reversed(self.rest):
                rest[m] = index % self.lengths[m]
                index = index // self.lengths[m]
            for start in range(first, last, height):
                yield Slab(self.u, self.v, start, min(start + height, last), rest)


def plan_of(
    xs: Sequence[Tensor],
    scale: Tensor,
    anchors: Sequence[int] | None,
    forbid: Forbid | None,
    part: tuple[int, int],
    merge: Merge | None,
    tile: int | None,
) -> Plan:
    """Return the plan of a cube of logits. Raises ValueError for too many tuples of five modalities or more."""
    lengths = [len(x) for x in xs]
    total = math.prod(lengths)
    if len(xs) > 4 and total > LIMIT:
        raise ValueError(
            f"all tuples of {len(xs)} modalities with {', '.join(map(str, lengths))} rows are {total:.1e} logits, more "
            f"than {LIMIT:.1e}; take negatives='partial', 'shuffled' or a number of tuples"
        )
    u, v, *rest = sorted(range(len(xs)), key=lambda m: -lengths[m])
    with torch.no_grad():  # the one look at data: |<x, y, z>| <= |x||y||z|
        norms = torch.stack([torch.linalg.vector_norm(x, dim=1).amax() for x in xs])
        bound = float(scale.abs() * norms.prod())
    return Plan(
        u,
        v,
        sorted(rest),
        lengths,
        list(range(len(xs))) if anchors is None else [*anchors],
        forbid,
        part,
        merge,
        height_of(lengths[v], xs[0].shape[1]) if tile is None else tile,
        shifted=not bound + math.log(total) <= SAFE,
    )


def height_of(columns: int, dim: int) -> int:
    """Return the rows of a slab of (rows, columns) logits, made of (rows, dim) products."""
    return max(ROWS, TILE // max(columns, 2 * dim))


class Maker:
    """Maker of the logits of slabs from rows."""

    def __init__(self, plan: Plan, scale: Tensor, xs: Sequence[Tensor]):
        self.plan, self.scale, self.xs = plan, scale, xs
        self.room: Tensor | None = None

    def rows(self, slab: Slab) -> tuple[Tensor, Tensor]:
        """Return scale·c (J, D), the rows of the rest multiplied, and (J·t, D), those times the rows of u."""
        xs = self.xs
        rest = [xs[m][index] for m, index in slab.rest.items()]
        factor = functools.reduce(torch.mul, rest, self.scale.expand(1, xs[0].shape[1]))
        return factor, (factor[:, None] * xs[slab.u][None, slab.start : slab.stop]).flatten(0, 1)

    def logits(self, slab: Slab, rows: Tensor) -> Tensor:
        """Return the logits of a slab, (J, t, n_v), in the same memory as the last ones."""
        v = self.xs[slab.v]
        if self.room is None or len(self.room) < len(rows):
            self.room = rows.new_empty(len(rows), len(v))
        return torch.mm(rows, v.T, out=self.room[: len(rows)]).view(-1, slab.stop - slab.start, len(v))


def axes(m: int, slab: Slab) -> tuple[int, int]:
    """Return the two axes of a slab (J, t, n_v) that are not anchor m's."""
    return (0, 2) if m == slab.u else (0, 1) if m == slab.v else (1, 2)


def spread_over(x: Tensor, m: int, slab: Slab) -> Tensor:
    """Return values (n_m,) of the anchors, shaped to broadcast over a slab."""
    if m == slab.u:
        return x[slab.start : slab.stop][None, :, None]
    return x if m == slab.v else x[slab.rest[m]][:, None, None]


def product(rows: Sequence[Tensor]) -> Tensor:
    """Return the elementwise product of all tensors."""
    return functools.reduce(torch.mul, rows)
