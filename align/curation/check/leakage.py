"""Leaks between two sets: the same bytes, media that look or sound alike, equal keys, equal groups.

Both sets are read the same way, so a picture of the training set that was resized for the test set is found too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from align.curation.check.duplicates import digest, keys, like, place, sums
from align.curation.check.findings import Findings
from align.curation.check.near import near
from align.curation.check.prints import Prints
from align.curation.check.seen import Seen
from align.data.shards import Shards


def check_leakage(shards: Shards, seen: Seen, other: Shards, theirs: Seen, modalities: Sequence[str]) -> None:
    """Find content of ``shards`` that is in ``other`` too, its twin.

    seen, theirs: the survey of each set. The findings are added to those of ``seen``.
    """
    _copies(shards, other, modalities, seen.findings)
    for kind, prints in seen.prints.items():
        _looks(shards, prints, other, theirs.prints[kind], seen.findings)
    known = {key: position for position, key in keys(other)}
    for position, key in keys(shards):
        if key in known:
            twin = place(other, known[key])
            seen.findings.add("leak/key", place(shards, position), f"in {twin.shard}", twin)
    for group in sorted(set(seen.groups) & set(theirs.groups)):
        at, twin = place(shards, seen.groups[group], "json"), place(other, theirs.groups[group], "json")
        seen.findings.add("leak/group", at, like(twin), twin)


def _copies(shards: Shards, other: Shards, modalities: Sequence[str], findings: Findings) -> None:
    here, elsewhere = sums(shards, modalities), sums(other, modalities)
    for modality, (content, where, names) in here.items():
        theirs, there, called = elsewhere[modality]
        known: dict[tuple[int, int], list[int]] = {}
        shared = np.flatnonzero(np.isin(_one(content), _one(theirs)))
        wanted = {tuple(row) for row in content[shared].tolist()}
        for j, row in enumerate(theirs.tolist()):
            if tuple(row) in wanted:
                known.setdefault((row[0], row[1]), []).append(j)
        for i in shared.tolist():
            position, member = int(where[i, 0]), names[where[i, 1]]
            bytes_here = digest(shards, position, member)
            for j in known[int(content[i, 0]), int(content[i, 1])]:
                that = int(there[j, 0]), called[there[j, 1]]
                if digest(other, *that) == bytes_here:
                    twin = place(other, *that)
                    findings.add("leak/exact", place(shards, position, member), like(twin), twin)
                    break


def _one(content: np.ndarray) -> np.ndarray:
    """Join (n, 2) size and checksum into (n,) uint64."""
    return (content[:, 0].astype(np.uint64) << np.uint64(32)) | content[:, 1].astype(np.uint64)


def _looks(shards: Shards, prints: Prints, other: Shards, theirs: Prints, findings: Findings) -> None:
    n = len(prints)
    pairs = near(np.concatenate([prints.bits, theirs.bits]), np.concatenate([prints.colours, theirs.colours]), split=n)
    same, content = theirs.content, prints.content
    done: set[int] = set()
    for i, j, bits in pairs[np.lexsort((pairs[:, 2], pairs[:, 0]))].tolist():  # the nearest twin of each
        if i not in done and content[i] != same[j - n]:
            position, member = prints.where(i)
            twin = place(other, *theirs.where(j - n))
            findings.add("leak/near", place(shards, position, member), like(twin, bits), twin)
        done.add(i)
