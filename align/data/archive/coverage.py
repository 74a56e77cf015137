"""What shards hold, told from the names of their members alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from align.data.archive.members import ShardIndex
from align.data.names import CODE, MemberNames, find_ignored, row_name


def modalities_of(member: str, mapping: MemberNames, *, negatives: bool = True) -> set[str]:
    """The modalities that a member gives rows to; hard negatives are such rows too, unless left out."""
    row = row_name(member)
    named = {row.modality} if row is not None and (negatives or not row.negative) else set()
    return named | {
        m for m, names in mapping.items() if m != "label" and any(n.partition(":")[0] == member for n in names)
    }


def select_members(names: Sequence[str], mapping: MemberNames, modalities: frozenset[str] | None) -> np.ndarray:
    """(names,) bool: which members are read for these modalities (None: for all). Pickles never are."""
    meta = {"json", *mapping.get("label", ())}

    def is_read(name: str) -> bool:
        if name.rpartition(".")[2] in CODE:
            return False
        return modalities is None or name in meta or not modalities.isdisjoint(modalities_of(name, mapping))

    return np.array([is_read(name) for name in names], dtype=bool)


def count_modalities(indexes: Sequence[ShardIndex], mapping: MemberNames) -> dict[str, int]:
    """Modality -> how many samples have a row of it that matches something."""
    total: Counter[str] = Counter()
    for index in indexes:
        owner = np.repeat(np.arange(len(index)), np.diff(index.first))  # (members,) the sample of each
        having: dict[str, list[int]] = {}
        for n, name in enumerate(index.names):
            for modality in modalities_of(name, mapping, negatives=False):
                having.setdefault(modality, []).append(n)
        for modality, ids in having.items():
            total[modality] += len(np.unique(owner[np.isin(index.name, ids)]))
    return dict(sorted(total.items()))


def count_unused(indexes: Sequence[ShardIndex], mapping: MemberNames) -> dict[str, int]:
    """Member name -> how many members of it mean nothing."""
    total: Counter[str] = Counter()
    for index in indexes:
        names = find_ignored(index.names, mapping)
        counts = np.bincount(index.name, minlength=len(index.names)).tolist()
        total.update({name: n for name, n in zip(index.names, counts, strict=True) if name in names})
    return dict(sorted(total.items()))


def count_repeated(indexes: Sequence[ShardIndex]) -> int:
    """How many samples have a key that an earlier shard has too. Each is read all the same."""
    known = [index for index in indexes if len(index.name)]  # the samples of an unreachable shard have no keys
    if len(known) < 2:
        return 0
    return sum(map(len, known)) - len(set().union(*(index.keys for index in known)))


def find_copy(indexes: Sequence[ShardIndex]) -> tuple[int, int, str] | None:
    """(shard, later shard, key) of the first sample that two shards hold with equal members and checksums; or None."""
    seen: dict[int, int] = {}
    for shard, index in enumerate(indexes):
        sums = zip(index.name.tolist(), index.size.tolist(), index.crc32.tolist(), strict=True)
        members = [(index.names[n], size, crc) for n, size, crc in sums]
        for i, key in enumerate(index.keys):
            mark = hash((key, frozenset(members[index.first[i] : index.first[i + 1]])))
            if index.first[i] < index.first[i + 1] and seen.setdefault(mark, shard) != shard:
                return seen[mark], shard, key
    return None
