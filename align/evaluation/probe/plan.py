"""The plan of a probe: which samples it learns from, which it answers, and how it chooses its C."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import torch
from torch import Tensor

from align.evaluation.overlap import refuse_overlap
from align.evaluation.probe.folds import Folds, check_apart, find_folds
from align.evaluation.probe.groups import find_groups
from align.evaluation.space import Space, Split


class Part(NamedTuple):
    """One probe: samples to learn from, (B,) bool of the split ``learns``, and to answer, (B,) bool of the test split.

    name: of the test fold, or "test". official: (B,) int64, the folds by which it may choose its C, or None.
    """

    name: str
    train: Tensor
    test: Tensor
    official: Tensor | None


class Plan(NamedTuple):
    """Probes of a space. learns: the split of their training rows. key: of the groups, "" for none.

    groups: of each sample of ``learns``. by: the names of the official folds, [] without them.
    """

    learns: Split
    parts: list[Part]
    groups: list[Hashable]
    key: str
    by: list[str]


def make_plan(space: Space, folds: str | None, group: str) -> Plan:
    """Return the plan: one probe from the training shards, or one for each official fold from the other ones.

    Raises ValueError for neither, for both, and where a group is on both sides.
    """
    check_source(folds, trains=space.train is not None)
    if folds is not None:
        return _of_folds(space, find_folds(space, folds), group)
    refuse_overlap(space, "train", "the probe would know its answers", "or --folds for folds of one set")
    groups = find_groups(space, ("train", "test"), group)
    tables = {split: space.table(split=split) for split in groups.of}
    sides = [list(zip(tables[split].ids, groups.of[split], strict=True)) for split in groups.of]
    check_apart(["train", "test"], sides, groups.key, "training and the test shards")
    everyone = {split: torch.ones(table.size, dtype=torch.bool) for split, table in tables.items()}
    return Plan("train", [Part("test", everyone["train"], everyone["test"], None)], groups.of["train"], groups.key, [])


def check_source(folds: str | None, *, trains: bool) -> None:
    """Raise ValueError unless a probe learns from training shards (``trains``) or from folds, and not from both."""
    if folds is None and not trains:
        raise ValueError(
            "the probe has no training shards: --train SHARDS, or --folds shards where the shards are those of folds "
            "(fold1-000000.tar, …), or --folds KEY for a key of the json"
        )
    if folds is not None and trains:
        raise ValueError("the probe learns from --train or from --folds, not from both; leave one of them out")


def _of_folds(space: Space, found: Folds, group: str) -> Plan:
    groups, ids = find_groups(space, ("test",), group), space.table().ids
    of, count = groups.of["test"], len(found.names)
    sides = [[(ids[i], of[i]) for i in (found.place == number).nonzero().flatten().tolist()] for number in range(count)]
    check_apart(found.names, sides, groups.key, "folds")
    parts = []
    for number, name in enumerate(found.names):
        rest = (found.place >= 0) & (found.place != number)
        official = (found.place - number - 1) % count if count > 2 else None  # the fold after this one is 0
        parts.append(Part(name, rest, found.place == number, official))
    return Plan("test", parts, of, groups.key, found.names)
