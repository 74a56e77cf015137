"""log Σ exp over every tuple of rows, for every anchor at once, in tiles: what InfoNCE and Symile are made of.

The logit of a tuple that takes one row of each of M modalities is scale·Σ_d Π_m x_m[d]. All anchors see the same cube
of logits (for M = 2 the matrix of similarities, for both directions), only the set that normalises differs: so a slab
of the cube is one matrix product, and its row sums, column sums and total serve all anchors. Going back, the slab is
made again: 8·Π n_m·D operations in all, and memory for one slab.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from align.losses.pairing import exact, once

Merge = Callable[[Tensor, Literal["sum", "logsumexp"]], Tensor]
TILE = 2**20  # entries of a slab, more where that were fewer than ROWS rows
ROWS = 128
SAFE = 60.0  # the largest |logit| + log of the number of tuples at which exp needs no shift in float32
LIMIT = 2**36  # tuples of five modalities or more


class Slab(NamedTuple):
    """Where a slab lies: rows start..stop of the modality u, all rows of v, and rest[m], (J,), of each other m."""

    u: int
    v: int
    start: int
    stop: int
    rest: dict[int, Tensor]

    def rows(self, m: int, length: int, device: torch.device) -> Tensor:
        """The rows of modality m in this slab, shaped to broadcast over (J, rows of u, rows of v)."""
        if m == self.u:
            return torch.arange(self.start, self.stop, device=device)[None, :, None]
        return torch.arange(length, device=device) if m == self.v else self.rest[m][:, None, None]


Forbid = Callable[[Tensor, int, Slab], None]
"""Sets to -inf, in place, the logits (J, rows of u, rows of v) of the tuples that are no candidates of anchor m."""


def _height(columns: int, dim: int) -> int:
    """Rows of a slab of (rows, columns) logits, made of (rows, dim) products."""
    return max(ROWS, TILE // max(columns, 2 * dim))


def share(n: int, part: tuple[int, int]) -> tuple[int, int]:
    """Rows start..stop of n that part (i, of) computes; the parts are as equal as can be. Raises ValueError."""
    i, of = part
    if not 0 <= i < of:
        raise ValueError(f"part is (i, n) with 0 <= i < n; got {part}")
    return n * i // of, n * (i + 1) // of


def check_part(part: tuple[int, int], merge: Merge | None, tile: int | None) -> None:
    """Raises ValueError for a part that nothing merges, or a tile below one row."""
    share(1, part)
    if part[1] > 1 and merge is None:
        raise ValueError(f"part={part} is one share of several: merge= must join the partial results of all parts")
    if tile is not None and tile < 1:
        raise ValueError(f"tile is at least one row; got {tile}")


def wide(x: Tensor) -> torch.dtype:
    """What sums over many tiles are kept in."""
    return torch.float32 if x.device.type == "mps" else torch.float64


def mine(x: Tensor, part: tuple[int, int]) -> Tensor:
    """x (n, ...), whose gradient flows through this part's rows alone."""
    if part[1] == 1:
        return x
    start, stop = share(len(x), part)
    return torch.cat([x[:start].detach(), x[start:stop], x[stop:].detach()])


def log_sums(
    xs: Sequence[Tensor],
    scale: Tensor,
    tuples: Tensor,
    *,
    anchors: Sequence[int] | None = None,
    forbid: Forbid | None = None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
    tile: int | None = None,
) -> tuple[list[Tensor], Tensor]:
    """For each anchor modality m, (n_m,) log Σ exp of its rows' logits over all other modalities' tuples, -inf where
    nothing is left of them; and the logits (C,) of the given tuples. Both are differentiable, once.

    xs: M >= 2 tensors (n_m, D) of one dtype, float32 at least, none empty. scale: 0-d, of that dtype.
    tuples: (C, M) rows. anchors: which modalities; all by default. forbid: what each leaves out; for M = 2 it is asked
    once, for the first anchor, and holds for both.
    part, merge: this call computes its share of the rows of one modality; ``merge`` joins the parts' sums in the middle
    of the forward pass. Values are whole everywhere, gradients this part's share.
    tile: rows of a slab; None: as many as make about a million logits.
    """
    plan = _plan(xs, scale, anchors, forbid, part, merge, tile)
    *sums, own = _LogSums.apply(plan, tuples, scale, *xs)  # type: ignore[misc]
    return sums, own


@dataclass(frozen=True)
class _Plan:
    u: int  # the modality with most rows: rows of a slab
    v: int  # the one with most rows of the others: its columns
    rest: list[int]
    lengths: list[int]
    anchors: list[int]
    forbid: Forbid | None
    part: tuple[int, int]
    merge: Merge | None
    tile: int
    shifted: bool  # one shift a row; without it exp cannot overflow or vanish

    def slabs(self, device: torch.device) -> Iterator[Slab]:
        """The slabs of this part. Reads no data: a GPU is never waited for."""
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


def _plan(
    xs: Sequence[Tensor],
    scale: Tensor,
    anchors: Sequence[int] | None,
    forbid: Forbid | None,
    part: tuple[int, int],
    merge: Merge | None,
    tile: int | None,
) -> _Plan:
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
    return _Plan(
        u,
        v,
        sorted(rest),
        lengths,
        list(range(len(xs))) if anchors is None else [*anchors],
        forbid,
        part,
        merge,
        _height(lengths[v], xs[0].shape[1]) if tile is None else tile,
        shifted=not bound + math.log(total) <= SAFE,
    )


class _Sums:
    """Running sums of exp for the anchors, each (n_m,): plain ones, or with the largest logit so far beside them."""

    def __init__(self, plan: _Plan, like: Tensor):
        self.plan = plan
        self.sums = {m: like.new_zeros(plan.lengths[m], dtype=wide(like)) for m in plan.anchors}
        self.tops = {m: torch.full_like(x, -math.inf) for m, x in self.sums.items()} if plan.shifted else {}

    def add(self, logits: Tensor, slab: Slab) -> None:
        """logits (J, t, n_v), overwritten."""
        forbid, alone = self.plan.forbid, bool(self.plan.rest)
        if forbid and not alone:
            forbid(logits, self.plan.anchors[0], slab)
        if not self.plan.shifted and not (forbid and alone):
            of_rows = logits.exp_().sum(2)  # (J, t): one exp serves every anchor
            for m in self.plan.anchors:
                self._put(m, logits.flatten(0, 1).sum(0) if m == slab.v else of_rows.sum(_axes(m, slab)[:1]), slab)
            return
        for m in self.plan.anchors:
            each = logits
            if forbid and alone:
                each = logits.clone()
                forbid(each, m, slab)
            if self.plan.shifted:
                each = each - _spread(self._raised(m, each.amax(_axes(m, slab)), slab), m, slab).to(each.dtype)
            self._put(m, each.exp_().sum(_axes(m, slab)), slab)

    def logs(self) -> list[Tensor]:
        """(n_m,) of each anchor."""
        return [x.log() + (_finite(self.tops[m]) if self.tops else 0) for m, x in self.sums.items()]

    def _put(self, m: int, more: Tensor, slab: Slab) -> None:
        if m == slab.u:
            self.sums[m][slab.start : slab.stop] += more
        elif m == slab.v:
            self.sums[m] += more
        else:
            self.sums[m].index_add_(0, slab.rest[m], more.to(self.sums[m].dtype))

    def _raised(self, m: int, seen: Tensor, slab: Slab) -> Tensor:
        """The largest logit of each anchor so far, with these; the sums now stand over it."""
        top, seen = self.tops[m].clone(), seen.to(self.tops[m].dtype)
        if m == slab.u:
            top[slab.start : slab.stop] = torch.maximum(top[slab.start : slab.stop], seen)
        elif m == slab.v:
            top = torch.maximum(top, seen)
        else:
            top.scatter_reduce_(0, slab.rest[m], seen, "amax")
        self.sums[m] *= (self.tops[m] - _finite(top)).exp()
        self.tops[m] = top
        return _finite(top)


def _finite(top: Tensor) -> Tensor:
    return torch.where(top.isinf(), 0, top)


def _axes(m: int, slab: Slab) -> tuple[int, int]:
    """The axes of a slab (J, t, n_v) that are not anchor m's."""
    return (0, 2) if m == slab.u else (0, 1) if m == slab.v else (1, 2)


def _spread(x: Tensor, m: int, slab: Slab) -> Tensor:
    """(n_m,) values of the anchors, shaped to broadcast over a slab."""
    if m == slab.u:
        return x[slab.start : slab.stop][None, :, None]
    return x if m == slab.v else x[slab.rest[m]][:, None, None]


class _Maker:
    """Makes slabs of logits from rows, and takes the rows' gradients from those of the logits."""

    def __init__(self, plan: _Plan, scale: Tensor, xs: Sequence[Tensor]):
        self.plan, self.scale, self.xs = plan, scale, xs
        self.room: Tensor | None = None

    def rows(self, slab: Slab) -> tuple[Tensor, Tensor]:
        """scale·c (J, D), the rows of the rest multiplied, and (J·t, D), those times the rows of u."""
        xs = self.xs
        rest = [xs[m][index] for m, index in slab.rest.items()]
        factor = functools.reduce(torch.mul, rest, self.scale.expand(1, xs[0].shape[1]))
        return factor, (factor[:, None] * xs[slab.u][None, slab.start : slab.stop]).flatten(0, 1)

    def logits(self, slab: Slab, rows: Tensor) -> Tensor:
        """(J, t, n_v), in the same memory as the last ones."""
        v = self.xs[slab.v]
        if self.room is None or len(self.room) < len(rows):
            self.room = rows.new_empty(len(rows), len(v))
        return torch.mm(rows, v.T, out=self.room[: len(rows)]).view(-1, slab.stop - slab.start, len(v))


class _LogSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: _Plan, tuples: Tensor, scale: Tensor, *xs: Tensor) -> tuple[Tensor, ...]:
        with exact(scale):
            maker, sums = _Maker(plan, scale, xs), _Sums(plan, xs[0])
            for slab in plan.slabs(scale.device):
                sums.add(maker.logits(slab, maker.rows(slab)[1]), slab)
            logs = torch.cat(sums.logs())
            if plan.merge:
                logs = plan.merge(logs, "logsumexp")
            own = _logits_of(tuples, scale, xs, plan.tile)
        ctx.plan = plan
        ctx.save_for_backward(tuples, scale, logs, *xs)
        parts = logs.to(scale.dtype).split([plan.lengths[m] for m in plan.anchors])
        return (*parts, own)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        once()
        plan: _Plan = ctx.plan
        tuples, scale, logs, *xs = ctx.saved_tensors
        with exact(scale):
            out, steep = [torch.zeros_like(x) for x in xs], scale.new_zeros((), dtype=wide(scale))
            maker = _Maker(plan, scale, xs)
            weigh = _Weigh(plan, logs.split([plan.lengths[m] for m in plan.anchors]), grads[:-1])
            for slab in plan.slabs(scale.device):
                factor, rows = maker.rows(slab)
                slope = weigh(maker.logits(slab, rows), slab).flatten(0, 1)  # (J·t, n_v)
                down = (slope @ xs[slab.v]).unflatten(0, (len(factor), -1))  # (J, t, D)
                out[slab.v].addmm_(slope.T, rows)
                inner = (down * xs[slab.u][slab.start : slab.stop]).sum(1)  # (J, D)
                out[slab.u][slab.start : slab.stop] += down.mul_(factor[:, None]).sum(0)
                rest = {m: xs[m][index] for m, index in slab.rest.items()}
                steep += (inner * _product([*rest.values()])).sum() if rest else inner.sum()
                for m, index in slab.rest.items():
                    others = [x for o, x in rest.items() if o != m]
                    out[m].index_add_(0, index, _product([scale * inner, *others]))
            _add_own(tuples, grads[-1], scale, xs, out, steep, plan.part, plan.tile)
        return None, None, steep.to(scale.dtype), *out


class _Weigh:
    """d loss / d logits of a slab: Σ_m g_m·exp(logit - log Σ exp of anchor m)."""

    def __init__(self, plan: _Plan, logs: Sequence[Tensor], grads: Sequence[Tensor]):
        self.plan = plan
        self.grads = dict(zip(plan.anchors, grads, strict=True))
        # An anchor that does not count may have no candidates at all.
        self.logs = {m: torch.where(self.grads[m] == 0, math.inf, x) for m, x in zip(plan.anchors, logs, strict=True)}
        self.factors = {m: (g * (-self.logs[m]).exp()).to(g.dtype) for m, g in self.grads.items()}
        self.room: Tensor | None = None

    def __call__(self, logits: Tensor, slab: Slab) -> Tensor:
        """(J, t, n_v), which overwrites the logits."""
        forbid, alone = self.plan.forbid, bool(self.plan.rest)
        if forbid and not alone:
            forbid(logits, self.plan.anchors[0], slab)
        if not self.plan.shifted and not (forbid and alone):
            factors = [_spread(x, m, slab) for m, x in self.factors.items()]
            columns = [x for x in factors if x.ndim == 1]
            rows = [x for x in factors if x.ndim > 1]
            logits.exp_()
            if not columns:
                return logits.mul_(functools.reduce(torch.add, rows))
            if not rows:
                return logits.mul_(columns[0])
            if self.room is None or self.room.numel() < logits.numel():
                self.room = torch.empty_like(logits)
            both = self.room.flatten()[: logits.numel()].view_as(logits)
            return logits.mul_(torch.add(functools.reduce(torch.add, rows), columns[0], out=both))
        slope = torch.zeros_like(logits)
        for m in self.plan.anchors:
            each = logits - _spread(self.logs[m], m, slab).to(logits.dtype)
            if forbid and alone:
                forbid(each, m, slab)
            slope.addcmul_(each.exp_(), _spread(self.grads[m], m, slab).expand_as(each))
        return slope


def tuple_logits(xs: Sequence[Tensor], scale: Tensor, tuples: Tensor, *, tile: int | None = None) -> Tensor:
    """(C,) the logits of the given tuples (C, M), in chunks; differentiable once."""
    return _TupleLogits.apply(tile or ROWS, tuples, scale, *xs)  # type: ignore[no-any-return]


class _TupleLogits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tile: int, tuples: Tensor, scale: Tensor, *xs: Tensor) -> Tensor:
        ctx.tile = tile
        ctx.save_for_backward(tuples, scale, *xs)
        with exact(scale):
            return _logits_of(tuples, scale, xs, tile)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        once()
        tuples, scale, *xs = ctx.saved_tensors
        with exact(scale):
            out, steep = [torch.zeros_like(x) for x in xs], scale.new_zeros((), dtype=wide(scale))
            _add_own(tuples, grads[0], scale, xs, out, steep, (0, 1), ctx.tile)
        return None, None, steep.to(scale.dtype), *out


def _logits_of(tuples: Tensor, scale: Tensor, xs: Sequence[Tensor], tile: int) -> Tensor:
    own = [scale * _product([x[t[:, m]] for m, x in enumerate(xs)]).sum(1) for t in tuples.split(tile)]
    return torch.cat(own) if own else scale.new_zeros(0)


def _add_own(
    tuples: Tensor,
    grad: Tensor,
    scale: Tensor,
    xs: Sequence[Tensor],
    out: list[Tensor],
    steep: Tensor,
    part: tuple[int, int],
    tile: int,
) -> None:
    """Adds the gradients of this part's share of the tuples' logits."""
    start, stop = share(len(tuples), part)
    for picked, g in zip(tuples[start:stop].split(tile), grad[start:stop].split(tile), strict=True):
        rows = [x[picked[:, m]] for m, x in enumerate(xs)]
        steep += (g * _product(rows).sum(1)).sum()
        for m in range(len(xs)):
            others = _product([x for o, x in enumerate(rows) if o != m])
            out[m].index_add_(0, picked[:, m], (g * scale)[:, None] * others)


def _product(rows: Sequence[Tensor]) -> Tensor:
    return functools.reduce(torch.mul, rows)
