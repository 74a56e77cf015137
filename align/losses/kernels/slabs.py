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
from align.losses.kernels.products import HALVES, matmul_float32, multiplies_halves, multiply_parts, split_halves

TILE = 2**20  # entries of a slab, or more so that it has ROWS rows
ROWS = 128
WIDTH = 4096  # columns of a slab on a GPU
SAFE = 60.0  # the largest |logit| + log of the number of tuples at which exp needs no shift in float32
LIMIT = 2**36  # the most tuples of five modalities or more


class Slab(NamedTuple):
    """The place of a slab: rows start..stop of the modality u, columns of v, and rest[m], (J,), of each other m."""

    u: int
    v: int
    start: int
    stop: int
    rest: dict[int, Tensor]
    columns: slice = slice(None)  # rows of v

    def rows(self, m: int, length: int, device: torch.device) -> Tensor:
        """Return the rows of modality m in this slab, shaped to broadcast over (J, rows of u, rows of v)."""
        if m == self.u:
            return torch.arange(self.start, self.stop, device=device)[None, :, None]
        return torch.arange(length, device=device)[self.columns] if m == self.v else self.rest[m][:, None, None]


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
    width: int  # columns of a slab
    half: torch.dtype | None  # of the products, where the device multiplies halves
    factors: list[int]  # halves whose product a row is, by modality

    @property
    def steps(self) -> tuple[int, int]:
        """The combinations of the rest and the rows of u in a slab, J and t."""
        first, last = share(self.lengths[self.u], self.part)
        height = min(self.tile, max(last - first, 1))
        return max(1, self.tile // height), height

    def slabs(self, device: torch.device) -> Iterator[Slab]:
        """Yield the slabs of this part. It reads no data, so a GPU is never waited for."""
        first, last = share(self.lengths[self.u], self.part)
        combined = math.prod(self.lengths[m] for m in self.rest)
        (deep, height), width = self.steps, self.lengths[self.v]
        for q in range(0, combined, deep):
            rest, index = {}, torch.arange(q, min(q + deep, combined), device=device)
            for m in reversed(self.rest):
                rest[m] = index % self.lengths[m]
                index = index // self.lengths[m]
            for start in range(first, last, height):
                for left in range(0, width, self.width):
                    columns = slice(left, min(left + self.width, width))
                    yield Slab(self.u, self.v, start, min(start + height, last), rest, columns)


def plan_of(
    xs: Sequence[Tensor],
    scale: Tensor,
    anchors: Sequence[int] | None,
    forbid: Forbid | None,
    part: tuple[int, int],
    merge: Merge | None,
    tile: int | None,
    factors: Sequence[int] | None = None,
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
        norms = torch.stack([torch.linalg.vector_norm(x, dim=1, dtype=scale.dtype).amax() for x in xs])
        bound = float(scale.abs() * norms.prod())
    height, width = (tile, lengths[v]) if tile is not None else size_of(lengths[v], xs[0].shape[1], scale.device)
    factors = [1] * len(xs) if factors is None else [*factors]
    return Plan(
        u,
        v,
        sorted(rest),
        lengths,
        list(range(len(xs))) if anchors is None else [*anchors],
        forbid,
        part,
        merge,
        height,
        shifted=not bound + math.log(total) <= SAFE,
        width=width,
        half=half_of(xs, factors),
        factors=factors,
    )


def half_of(xs: Sequence[Tensor], factors: Sequence[int]) -> torch.dtype | None:
    """Return the half that the device multiplies these rows in, None where they are multiplied in float32 or wider.

    A product of several rows has more digits than a half. bfloat16 takes them in parts. float16's range is too small.
    """
    found = next((x.dtype for x in xs if multiplies_halves(x)), None)
    single = len(xs) == 2 and max(factors) == 1
    return found if found == torch.bfloat16 or single else None


def size_of(columns: int, dim: int, device: torch.device) -> tuple[int, int]:
    """Return the rows and the columns of a slab of logits, made of (rows, dim) products.

    A CPU's slab has all columns. A GPU's is nearly square and fits into its L2 cache, so that neither the logits nor
    the gradients of the columns travel to memory and back with each slab.
    """
    if device.type != "cuda":
        return height_of(columns, dim), max(columns, 1)
    width = min(max(columns, 1), WIDTH)
    return max(ROWS, entries_of(device) // width), width


@functools.cache
def entries_of(device: torch.device) -> int:
    """Return the logits of a slab on a GPU: a power of two whose float32 fill its L2 cache at most, and 1/64 of memory.

    H100, 50 MiB of cache: 2^23. One with 4 MiB: 2^20.
    """
    found = torch.cuda.get_device_properties(device)
    most = min(getattr(found, "L2_cache_size", 0), found.total_memory // 64) // 4
    return 2 ** min(max(int(math.log2(max(most, 1))), 20), 24)


def height_of(columns: int, dim: int) -> int:
    """Return the rows of a slab of (rows, columns) logits, made of (rows, dim) products."""
    return max(ROWS, TILE // max(columns, 2 * dim))


class Maker:
    """Maker of the logits of slabs from rows.

    Where the device multiplies halves, rows and gradients go without the scale, which would not fit into a half:
    ``scale`` is 1 then, and the logits are scaled after their product.
    """

    def __init__(self, plan: Plan, scale: Tensor, xs: Sequence[Tensor]):
        self.plan, self.xs, self.after = plan, xs, scale
        self.scale = scale if plan.half is None else torch.ones_like(scale)
        self.room: Tensor | None = None

    def rows(self, slab: Slab) -> tuple[Tensor, Tensor]:
        """Return scale·c (J, D), the rows of the rest multiplied, and (J·t, D), those times the rows of u."""
        xs = self.xs
        rest = [xs[m][index] for m, index in slab.rest.items()]
        factor = functools.reduce(torch.mul, rest, self.scale.expand(1, xs[0].shape[1]))
        return factor, (factor[:, None] * xs[slab.u][None, slab.start : slab.stop]).flatten(0, 1)

    def logits(self, slab: Slab, rows: Tensor) -> Tensor:
        """Return the logits of a slab, (J, t, columns), in the same memory as the last ones."""
        v = self.xs[slab.v][slab.columns]
        size = len(rows) * len(v)
        if self.room is None or len(self.room) < size:
            self.room = rows.new_empty(size)
        out = self.room[:size].view(len(rows), len(v))
        if (half := self.plan.half) is None:
            matmul_float32(rows, v.T, out=out)
        else:
            counts = [self.plan.factors[m] for m in (slab.u, *slab.rest)]
            left = split_halves(rows, half, min(sum(counts), 3))
            right = [v] if v.dtype in HALVES else split_halves(v, half, min(self.plan.factors[slab.v], 3))
            multiply_parts(left, right, out).mul_(self.after)
        return out.view(-1, slab.stop - slab.start, len(v))


def axes(m: int, slab: Slab) -> tuple[int, int]:
    """Return the two axes of a slab (J, t, n_v) that are not anchor m's."""
    return (0, 2) if m == slab.u else (0, 1) if m == slab.v else (1, 2)


def spread_over(x: Tensor, m: int, slab: Slab) -> Tensor:
    """Return values (n_m,) of the anchors, shaped to broadcast over a slab."""
    if m == slab.u:
        return x[slab.start : slab.stop][None, :, None]
    return x[slab.columns] if m == slab.v else x[slab.rest[m]][:, None, None]


def product(rows: Sequence[Tensor]) -> Tensor:
    """Return the elementwise product of all tensors."""
    return functools.reduce(torch.mul, rows)
