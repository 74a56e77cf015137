"""Groups of samples that must stand on one side: cuts of one recording, pictures of one thing."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from align.evaluation.space import Space, Split
from align.values import Embeddings

RECORDING = "recording"
LOOKED = 20  # samples whose json is read to find out whether it names recordings


class Groups(NamedTuple):
    """Groups by split. key: its name in the json, "" for none. of: split -> the group of each sample, or None."""

    key: str
    of: dict[Split, list[Hashable]]


def find_groups(space: Space, splits: Sequence[Split], by: str) -> Groups:
    """Return the groups of the splits' samples.

    by: a json key, "none", or "auto": ``recording`` where the json of the first samples has it, else ``group``. A group
    that is the label itself, one for each, is no group here: it says which samples are positives of each other. Raises
    ValueError for a key that no sample has.
    """
    tables: dict[Split, Embeddings] = {one: space.table(split=one) for one in splits}
    nothing: dict[Split, list[Hashable]] = {one: [None] * table.size for one, table in tables.items()}
    if by == "none":
        return Groups("", nothing)
    if by == "auto" and not _has_recordings(space, splits):
        found: dict[Split, list[Hashable]] = {}
        for one, table in tables.items():
            numbers = [-1] * table.size if table.group is None else table.group.tolist()
            found[one] = [None if number < 0 else number for number in numbers]
        labels = [label for table in tables.values() for label in table.labels]
        groups = [group for some in found.values() for group in some]
        return Groups("", nothing) if _is_label(groups, labels) else Groups("group", found)
    key = RECORDING if by == "auto" else by
    stated: dict[Split, list[Hashable]] = {}
    for split in splits:
        stated[split] = [_plain(one.get(key)) for one in space.json(split)]
    if by != "auto" and not any(one is not None for some in stated.values() for one in some):
        raise ValueError(f"--probe-group {key}: no sample's json has the key {key!r}")
    return Groups(key, stated)


def _has_recordings(space: Space, splits: Sequence[Split]) -> bool:
    try:
        return any(RECORDING in one for split in splits for one in space.json(split, LOOKED))
    except ValueError:  # a cache
        return False


def _plain(value: Any) -> Hashable:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value


def _is_label(groups: Sequence[Hashable], labels: Sequence[Any]) -> bool:
    """Return True where each group has one label, and each label one group."""
    pairs = {(group, json.dumps(label, sort_keys=True)) for group, label in zip(groups, labels, strict=True)}
    pairs = {(group, label) for group, label in pairs if group is not None}
    return len(pairs) == len({group for group, _ in pairs}) == len({label for _, label in pairs})
