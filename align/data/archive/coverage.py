"""Contents of shards by the names of their members alone: modalities, ignored members, repeated samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from align.data.archive.members import ShardIndex
from align.data.names import CODE, MemberNames, find_ignored, row_name


def modalities_of(member: str, mapping: MemberNames, *, negatives: bool = True) -> set[str]:
    """Return the modalities that a member gives rows to. negatives: hard negatives count as such rows."""
    row = row_name(member)
    named = {row.modality} if row is not None and (negatives or not row.negative) else set()
    return named | {
        m for m, names in mapping.items() if m != "label" and any(n.partition(":")[0] == member for n in names)
    }


def select_members(names: Sequence[str], mapping: MemberNames, modalities: frozenset[str] | None) -> np.ndarray:
    """Return (names,) bool: the members that are read for these modalities (None: for all). Pickles never are."""
    meta = {"json", *mapping.get("label", ())}

    def is_read(name: str) -> bool:
        if name.rpartition(".")[2] in CODE:
            return False
        return modalities is None or name in meta or not modalities.isdisjoint(modalities_of(name, mapping))

    return np.array([is_read(name) for name in names], dtype=bool)


def count_modalities(indexes: Sequence[ShardIndex], mapping: MemberNames) -> dict[str, int]:
    """Return modality -> the number of samples with a row of it that is no hard negative."""
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
    """Return member name -> the number of its members, for names without a meaning."""
    total: Counter[str] = Counter()
    for index in indexes:
        names = find_ignored(index.names, mapping)
        counts = np.bincount(index.name, minlength=len(index.names)).tolist()
        total.update({name: n for name, n in zip(index.names, counts, strict=True) if name in names})
    return dict(sorted(total.items()))


def count_repeated(indexes: Sequence[ShardIndex]) -> int:
    """Count the samples whose key an earlier shard has too. Each is read all the same."""
    known = [index for index in indexes if len(index.name)]  # the samples of an unreachable shard have no keys
    if len(known) < 2:
        return 0
    return sum(map(len, known)) - len(set().union(*(index.keys for index in known)))


def find_copy(indexes: Sequence[ShardIndex]) -> tuple[int, int, str] | None:
    """Return (shard, later shard, key) of the first sample that two shards hold with equal checksums, or None."""
    seen: dict[int, int] = {}
    for shard, index in enumerate(indexes):
        sums = zip(index.name.tolist(), index.size.tolist(), index.crc32.tolist(), strict=True)
        members = [(index.names[n], size, crc) for n, size, crc in sums]
        for i, key in enumerate(index.keys):
            mark = hash((key, frozenset(members[index.first[i] : index.first[i + 1]])))
            if index.first[i] < index.first[i + 1] and seen.setdefault(mark, shard) != shard:
                return seen[mark], shard, key
    return None
