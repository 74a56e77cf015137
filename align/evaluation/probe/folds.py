"""Folds: the official ones of a set, and folds that are dealt, with all samples of a group on one side."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from align.evaluation.counts import split
from align.evaluation.space import Space

INNER, TENTH, MANY = 5, 10, 5000  # folds dealt, below and from MANY training rows. Of TENTH folds, one is held out


class Folds(NamedTuple):
    """Folds of a table's samples. names: of the folds. place: (B,) int64, -1 of a sample without one."""

    names: list[str]
    place: Tensor


def find_folds(space: Space, by: str) -> Folds:
    """Return the official folds of the test shards. by: "shards", for the names before the number, or a json key.

    Raises ValueError where fewer than two folds are there.
    """
    table = space.table()
    if by == "shards":
        shards = space.of_split("test")
        of_shard = [split(url.name) for url in shards.urls]
        numbers = [shards.number(position) for position in table.position.tolist()]
        at = np.searchsorted(np.cumsum(shards.lengths), numbers, side="right")
        found: list[Any] = [of_shard[i] for i in at]
    else:
        found = [stated.get(by) for stated in space.json()]
    names = sorted({str(one) for one in found if one is not None}, key=lambda name: (len(name), name))
    if len(names) < 2:
        kind = "names of the shards (fold1-000000.tar, fold2-…)" if by == "shards" else f"key {by!r} of the json"
        raise ValueError(f"--folds {by}: the {kind} gives {names or 'no fold'}; a probe needs two folds at least")
    place = torch.tensor([-1 if one is None else names.index(str(one)) for one in found])
    return Folds(names, place)


def deal(kind: Sequence[int], groups: Sequence[Hashable], folds: int, generator: torch.Generator) -> Tensor:
    """Return the fold 0..folds-1 of each of B samples, at random, as many of each class in one as in another.

    kind: B classes. groups: B groups, None for a sample of its own. The samples of a group are in one fold. Larger
    groups are dealt first, each to the fold with the fewest samples of its first sample's class.
    """
    units: dict[Hashable, list[int]] = {}
    for i, group in enumerate(groups):
        units.setdefault(("alone", i) if group is None else ("group", group), []).append(i)
    many = list(units.values())
    order = torch.randperm(len(many), generator=generator).tolist()
    order.sort(key=lambda i: -len(many[i]))
    of_class: dict[int, list[int]] = {}
    total = [0] * folds
    place = torch.zeros(len(kind), dtype=torch.int64)
    for unit in (many[i] for i in order):
        have = of_class.setdefault(kind[unit[0]], [0] * folds)
        fold = min(range(folds), key=lambda f: (have[f], total[f]))
        total[fold] += len(unit)
        for i in unit:
            place[i] = fold
            of_class.setdefault(kind[i], [0] * folds)[fold] += 1
    return place


def check_apart(names: Sequence[str], sides: Sequence[Sequence[tuple[str, Hashable]]], key: str, kind: str) -> None:
    """Raise ValueError where two sides share a group, with the sides, the group and the keys of two samples.

    sides: of each, (key, group) of its samples. key: the name of the group in the json. kind: "folds", or "train and
    test".
    """
    seen: dict[Hashable, tuple[int, str]] = {}
    for number, side in enumerate(sides):
        for sample, group in side:
            other, first = seen.setdefault(group, (number, sample))
            if group is not None and other != number:
                raise ValueError(
                    f"the {kind} share a {key}: {group} is in {names[other]} (sample {first}) and in {names[number]} "
                    f"(sample {sample}), so a probe would know its answers; keep it on one side, or name another key "
                    "of the json with --probe-group (none: do not check)"
                )
