"""Answers of the probes of one attribute, from the rows of one modality."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from align.evaluation.probe.choose import FEW, Linear, Trials, fit
from align.evaluation.probe.design import Design
from align.evaluation.probe.draws import draw_share, draw_shots, rank_in_class
from align.evaluation.probe.folds import INNER, MANY, TENTH, deal
from align.evaluation.probe.plan import Part
from align.evaluation.probe.pool import Pool, sample_kinds
from align.metrics.neighbours import vote_right
from align.metrics.recall import ranks
from align.seeds import generator


class Settings(NamedTuple):
    """Settings of the probes. See ``Probe``."""

    unit: bool
    neighbours: Sequence[int]
    shots: Sequence[int]
    shares: Sequence[float]
    seeds: int
    seed: int


class Answers(NamedTuple):
    """Answers to q rows. target, sample, part: (q,) of each, part: the number of its probe.

    right: (q,) bool, told by the probe on all labels. logits: (q, c) of several classes, whose target is (q, c) bool.
    near: k -> (q,) bool, told by k neighbours. few: "shots@1", "labels@0.1" -> (seeds, q) bool. fitted: each probe.
    short: few -> True where a class had fewer samples than were asked for.
    """

    target: Tensor
    sample: Tensor
    part: Tensor
    right: Tensor
    logits: Tensor | None
    near: Mapping[int, Tensor]
    few: Mapping[str, Tensor]
    fitted: list[Linear]
    short: Mapping[str, bool]


def answer(
    train: Pool, test: Pool, parts: Sequence[Part], groups: Sequence[Hashable], classes: int, how: Settings
) -> Answers | None:
    """Return the answers of all parts, one after the other, or None where a part has no row to learn from.

    Parts without a row to answer are left out. groups: of the samples that ``train`` has rows of.
    """
    pools = [(part, train.only(part.train), test.only(part.test)) for part in parts]
    pools = [(part, one, other) for part, one, other in pools if len(other.place)]
    if not pools or not all(len(one.place) for _, one, _ in pools):
        return None
    several = train.target.ndim == 2
    smallest = min(len(one.place) for _, one, _ in pools)
    ks = [k for k in how.neighbours if k <= smallest] if not several else []
    pieces = [_answer(*pool, groups, classes, how, ks) for pool in pools]
    logits = torch.cat([piece.logits for piece in pieces if piece.logits is not None]) if several else None
    return Answers(
        torch.cat([piece.target for piece in pieces]),
        torch.cat([piece.sample for piece in pieces]),
        torch.cat([torch.full_like(piece.sample, i) for i, piece in enumerate(pieces)]),
        torch.cat([piece.right for piece in pieces]),
        logits,
        {k: torch.cat([piece.near[k] for piece in pieces]) for k in ks},
        {name: torch.cat([piece.few[name] for piece in pieces], dim=1) for name in pieces[0].few},
        [one for piece in pieces for one in piece.fitted],
        {name: any(piece.short[name] for piece in pieces) for name in pieces[0].short},
    )


def _answer(
    part: Part,
    train: Pool,
    test: Pool,
    groups: Sequence[Hashable],
    classes: int,
    how: Settings,
    ks: Sequence[int],
) -> Answers:
    several = train.target.ndim == 2
    fold, folds = inner_folds(part, train, groups, how.seed)
    everyone = Trials(torch.ones(1, len(train.place), dtype=torch.bool), fold[None], folds)
    (probe,) = fit(Design(train.table, train.place, how.unit), train.target, classes, everyone)
    logits = probe.logits(test.table, test.place, how.unit)
    right = torch.zeros(len(test.place), dtype=torch.bool) if several else _is_right(logits, test.target)
    few, short = ({}, {}) if several else _few(train, test, groups, classes, how, right)
    near = {}
    if ks:
        rows = train.table[train.place]
        near = vote_right(test.table[test.place], test.target, rows, train.target, classes, ks)
    zeros = torch.zeros_like(test.sample)
    return Answers(test.target, test.sample, zeros, right, logits if several else None, near, few, [probe], short)


def inner_folds(part: Part, train: Pool, groups: Sequence[Hashable], seed: int) -> tuple[Tensor, int]:
    """Return the fold (n,) of each row by which a C is chosen, and how many of them are held out in turn.

    They are the other official folds, or INNER dealt ones. From MANY rows on, one fold alone is held out: the next
    official one, or one of TENTH.
    """
    many = len(train.place) >= MANY
    if part.official is not None:
        place = part.official[train.sample]
        return place, 1 if many else int(part.official[part.train].max()) + 1
    kind = sample_kinds(train, len(part.train))
    return _deal(kind, train, groups, TENTH if many else INNER, generator("probe/folds", seed)), 1 if many else INNER


def _deal(kind: Tensor, train: Pool, groups: Sequence[Hashable], folds: int, draw: torch.Generator) -> Tensor:
    """Return the fold of each row (n,), dealt to the samples that have a kind. Rows of others have the fold 0."""
    place = torch.zeros(len(kind), dtype=torch.int64)
    at = (kind >= 0).nonzero().flatten()
    place[at] = deal(kind[at].tolist(), [groups[i] for i in at.tolist()], folds, draw)
    return place[train.sample]


def _few(
    train: Pool, test: Pool, groups: Sequence[Hashable], classes: int, how: Settings, right: Tensor
) -> tuple[dict[str, Tensor], dict[str, bool]]:
    """Return name -> (seeds, q) bool, and name -> True where a class has fewer samples than that."""
    kind = sample_kinds(train, len(groups))
    seeds = range(how.seeds)
    rank = [rank_in_class(kind, generator("probe/few", how.seed, number)) for number in seeds]
    sets = {f"shots@{k}": torch.stack([draw_shots(kind, one, k) for one in rank]) for k in how.shots}
    sets |= {f"labels@{share:g}": torch.stack([draw_share(kind, one, share) for one in rank]) for share in how.shares}
    told: dict[bytes, Tensor] = {(kind >= 0)[None].repeat(how.seeds, 1).numpy().tobytes(): right[None]}
    out: dict[str, Tensor] = {}
    for name, drawn in sets.items():
        key = drawn.numpy().tobytes()
        if key not in told:
            told[key] = _on_drawn(drawn, kind, train, test, groups, classes, how)
        out[name] = told[key]
    present = torch.bincount(kind[kind >= 0])
    fewest = int(present[present > 0].min())
    return out, {f"shots@{k}": fewest < k for k in how.shots}


def _on_drawn(
    drawn: Tensor, kind: Tensor, train: Pool, test: Pool, groups: Sequence[Hashable], classes: int, how: Settings
) -> Tensor:
    """Return (seeds, q) bool, told by probes on the samples drawn (seeds, B), each with a C of its own.

    A C is chosen by INNER folds of the samples drawn, by as many as a class has samples where these are fewer, and it
    is 1 where each class has one. From MANY rows on, one fold of TENTH is held out. It is one of FEW.
    """
    union = drawn.any(dim=0)
    rows = train.only(union)
    largest = max(int(torch.bincount(kind[some]).max()) for some in drawn)
    many = int(drawn[0][rows.sample].sum()) >= MANY
    folds = TENTH if many else min(INNER, largest)
    fold = [
        _deal(kind.masked_fill(~some, -1), rows, groups, folds, generator("probe/few/folds", how.seed, number))
        for number, some in enumerate(drawn)
    ]
    held = 1 if many else folds if folds > 1 else 0
    trials = Trials(drawn[:, rows.sample], torch.stack(fold), held, FEW)
    probes = fit(Design(rows.table, rows.place, how.unit), rows.target, classes, trials)
    logits = [probe.logits(test.table, test.place, how.unit) for probe in probes]
    return torch.stack([_is_right(one, test.target) for one in logits])


def _is_right(logits: Tensor, target: Tensor) -> Tensor:
    """Return (q,) bool: the right class has the highest logit alone."""
    hits = torch.zeros(logits.shape, dtype=torch.bool).scatter_(1, target[:, None], True)
    return ranks(logits, hits) == 1
