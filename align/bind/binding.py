"""One binding: pairs, split, heads, and their matching accuracy on the samples that were held out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from align.bind.columns import Opened, Pairs
from align.bind.fitting import Fitted, Method, fit_heads
from align.bind.matching import Match, Side, embed, match
from align.bind.moments import Moments, sum_moments
from align.bind.pairing import average_rows, hold_out, keep_both, order_samples, pair_rows
from align.seeds import generator

RowsOf = Literal["mean", "each"]


class Split(NamedTuple):
    """Pairs of one column. train: rows of both sides, row i of one with row i of the other. held: rows to measure on.

    samples: samples of the training part, before ``pairs`` reduces them.
    """

    train: tuple[Side, Side]
    held: tuple[Side, Side]


@dataclass(frozen=True)
class Bound:
    """Heads, and their accuracy. seconds: of the fit, without reading. left: training samples of held-out groups."""

    fitted: Fitted
    matches: list[Match]
    seconds: float
    train: dict[str, int]
    held: dict[str, int]
    left: int = 0
    sweeps: dict[str, dict[int, list[Match]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Options of a binding.

    how, dim, keep_anchor: see ``fit_heads``. pairs: samples of each column to fit on, None for all. val: the share of
    the samples to hold out, or a pattern of names of shards. rows: "mean" fits and measures the mean of a sample's
    rows, "each" pairs each of its rows with each of the anchor's. seed: of the split and of the choice of ``pairs``.
    sweep: "dim" and "pairs" -> more values to measure.
    """

    how: Method = "ridge"
    dim: int | None = None
    keep_anchor: bool = False
    pairs: int | None = None
    val: str = "0.2"
    rows: RowsOf = "mean"
    seed: int = 0
    sweep: Mapping[str, Sequence[int]] = field(default_factory=dict)


def bind_columns(opened: Opened, plan: Plan) -> Bound:
    """Return heads that are fitted on the training samples, and measured on the others.

    A sample counts if it has a row of the column and one of the anchor. Samples of one group are on one side of the
    split. Sweeps are measured on the same held-out samples, so their best value is chosen on these samples.

    Raises ValueError as ``fit_heads``, and for fewer pairs than ``plan`` asks for.
    """
    held, left = _hold_out(opened, plan)
    splits = {pair.modality: _split(pair, held, left, plan.rows) for pair in opened.pairs}
    began = time.perf_counter()
    moments = {m: _moments(split, plan.pairs, plan, m) for m, split in splits.items()}
    fitted = fit_heads(moments, opened.anchor, plan.how, dim=plan.dim, keep_anchor=plan.keep_anchor)
    seconds = time.perf_counter() - began
    sides = {m: split.held for m, split in splits.items()}
    sweeps: dict[str, dict[int, list[Match]]] = {}
    for name, values in plan.sweep.items():
        sweeps[name] = {}
        for value in values:
            given = {m: _moments(split, value, plan, m) for m, split in splits.items()} if name == "pairs" else moments
            dim = value if name == "dim" else plan.dim
            other = fit_heads(given, opened.anchor, plan.how, dim=dim, keep_anchor=plan.keep_anchor and name != "dim")
            sweeps[name][value] = _measure(other, opened.anchor, sides)
    return Bound(
        fitted,
        _measure(fitted, opened.anchor, sides),
        seconds,
        {m: moments[m].n for m in splits},
        {m: len(split.held[0].sample.unique()) for m, split in splits.items()},
        int(left.sum()),
        sweeps,
    )


def _hold_out(opened: Opened, plan: Plan) -> tuple[Tensor, Tensor]:
    """Return two masks (samples,) bool: the held-out samples, and the samples that are in neither part."""
    order = order_samples(opened.units, plan.seed)
    used = torch.zeros(len(order), dtype=torch.bool)
    for pair in opened.pairs:
        used[keep_both(pair.rows, pair.anchor)[0].sample] = True
    if not used.any():
        first = opened.pairs[0]
        raise ValueError(f"no sample has a row of {first.column.name} and one of {first.anchor_column.name}")
    held, left = torch.zeros_like(used), torch.zeros_like(used)
    try:
        share = float(plan.val)
    except ValueError:
        chosen = torch.tensor([fnmatchcase(name, plan.val) for name in opened.shards])
        if not chosen.any() or chosen.all():
            found = "all of them" if len(chosen) and chosen.all() else "none"
            raise ValueError(
                f"val {plan.val!r} is {found} of the shards {', '.join(opened.shards[:4])}; give a share, or a pattern "
                "of some of them"
            ) from None
        held = chosen[opened.shard] & used
        left = torch.isin(order, order[held]) & ~held & used
        return held, left
    held[used] = hold_out(order[used], share)
    return held, left


def _split(pair: Pairs, held: Tensor, left: Tensor, rows: RowsOf) -> Split:
    a, b = keep_both(pair.rows, pair.anchor)
    if rows == "mean":
        a, b = average_rows(a), average_rows(b)
    parts = []
    for part in (~held & ~left, held):
        parts.append((a.take(part[a.sample]), b.take(part[b.sample])))
    for (side, _), name in zip(parts, ("fit on", "measure"), strict=True):
        if not len(side.sample):
            raise ValueError(f"{pair.modality} has no sample to {name}; {len(a.sample.unique())} have both rows")
    return Split(*parts)


def _moments(split: Split, pairs: int | None, plan: Plan, modality: str) -> Moments:
    a, b = split.train
    known = a.sample.unique()
    if pairs is not None:
        if not 1 <= pairs <= len(known):
            raise ValueError(f"pairs is 1 to {len(known)}, the samples of {modality} to fit on; got {pairs}")
        draw = torch.randperm(len(known), generator=generator("bind", plan.seed, "pairs"))
        chosen = known[draw[:pairs]]
        a, b = (side.take(torch.isin(side.sample, chosen)) for side in (a, b))
    at_a, at_b = pair_rows(a, b)
    return sum_moments(a.values[at_a], b.values[at_b])


def _measure(fitted: Fitted, anchor: str, held: Mapping[str, tuple[Side, Side]]) -> list[Match]:
    """Return the matching of each column with the anchor, both ways, and of columns that share samples or groups.

    Columns were never paired with each other, so their matching is emergent.
    """
    found: list[Match] = []
    sides = {
        m: (rows._replace(values=embed(fitted.heads[m], rows.values)), embed(fitted.heads[anchor], other.values), other)
        for m, (rows, other) in held.items()
    }
    for m, (rows, values, other) in sides.items():
        given = other._replace(values=values)
        found += [match(m, rows, anchor, given), match(anchor, given, m, rows)]
    names = list(sides)
    for a in names:
        for b in names:
            if a != b and (asked := match(a, sides[a][0], b, sides[b][0])).rows:
                found.append(asked)
    return found
