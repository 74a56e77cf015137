"""Duplicates within a set: equal keys, equal bytes of media, equal captions, media that look or sound alike."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from align.curation.check.findings import Findings, Place
from align.curation.check.near import near
from align.curation.check.prints import Prints
from align.curation.check.samples import media_modality
from align.curation.check.seen import Captions
from align.data.names import TEXT, find_mapped
from align.data.shards import Shards


def place(shards: Shards, position: int, member: str = "") -> Place:
    """Return the place of a position of unshuffled shards, from the index alone."""
    shard, i = shards.find(position)
    return Place(str(shards.urls[shard]), shards.indexes[shard].keys[i], member, position)


def keys(shards: Shards) -> Iterator[tuple[int, str]]:
    """Return (position, key) of every sample."""
    return enumerate(key for index in shards.indexes for key in index.keys)


def check_keys(shards: Shards, findings: Findings) -> None:
    """Find keys that samples of several shards have. (Within a shard, equal keys are one sample.)"""
    first: dict[str, int] = {}
    for position, key in keys(shards):
        if first.setdefault(key, position) != position:
            findings.add("sample/duplicate-key", place(shards, position), "", place(shards, first[key]))


def sums(shards: Shards, modalities: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray, list[str]]]:
    """Return, for each modality, size and checksum of its media, where they are, and the names of their members.

    Both arrays are (n, 2) int64: size and checksum, position and number of the member's name. Only the index is read.
    """
    out: dict[str, tuple[list[np.ndarray], list[np.ndarray], list[str]]] = {m: ([], [], []) for m in modalities}
    start = 0
    for index in shards.indexes:
        owner = start + np.repeat(np.arange(len(index)), np.diff(index.first))  # (members,)
        for number, name in enumerate(index.names):
            modality = media_modality(name, shards)
            if modality not in out:
                continue
            content, where, names = out[modality]
            at = np.flatnonzero((index.name == number) & (index.size > 0))
            content.append(np.stack([index.size[at], index.crc32[at]], axis=1))
            where.append(np.stack([owner[at], np.full(len(at), len(names))], axis=1))
            names.append(name)
        start += len(index)
    none = np.zeros((0, 2), dtype=np.int64)
    return {m: (np.concatenate([none, *a]), np.concatenate([none, *b]), names) for m, (a, b, names) in out.items()}


def digest(shards: Shards, position: int, member: str) -> bytes:
    """Read a member again and return a hash of its bytes. Equal 32-bit checksums do not prove equal bytes."""
    sample, _ = shards.read(position)
    return hashlib.blake2b(sample.get(member, b""), digest_size=16).digest()


def check_copies(shards: Shards, modalities: Sequence[str], findings: Findings) -> None:
    """Find media with the same bytes, also within a sample."""
    for modality, (content, where, names) in sums(shards, modalities).items():
        order = np.lexsort((where[:, 1], where[:, 0], content[:, 1], content[:, 0]))
        same = (content[order][1:] == content[order][:-1]).all(axis=1)  # (n - 1,) equal to the one before
        again = set((np.flatnonzero(same) + 1).tolist())
        seen: dict[bytes, tuple[int, str]] = {}
        for i in sorted(again | {i - 1 for i in again}):
            if i not in again:
                seen = {}  # the next group of equal checksums
            position, member = int(where[order[i], 0]), names[where[order[i], 1]]
            first = seen.setdefault(digest(shards, position, member), (position, member))
            if first != (position, member):
                twin = place(shards, *first)
                findings.add(f"{modality}/duplicate", place(shards, position, member), like(twin), twin)


def check_looks(shards: Shards, prints: Prints, modality: str, findings: Findings) -> None:
    """Find members that look or sound like an earlier one without having its bytes. modality: of a hard negative."""
    pairs = near(prints.bits, prints.colours)
    content = prints.content
    done: set[int] = set()
    for i, j, bits in pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))].tolist():
        if j in done or content[i] == content[j]:
            continue
        done.add(j)
        position, member = prints.where(j)
        twin = place(shards, *prints.where(i))
        found = media_modality(member, shards) or modality
        findings.add(f"{found}/near-duplicate", place(shards, position, member), like(twin, bits), twin)


def check_captions(shards: Shards, captions: dict[str, Captions], findings: Findings) -> None:
    """Find captions that are repeated but for case and spaces, the most frequent first."""
    for modality, seen in captions.items():
        hashes, positions = np.array(seen.hashes, dtype=np.uint64), np.array(seen.positions, dtype=np.int64)
        order = np.argsort(hashes, kind="stable")
        _, start, counts = np.unique(hashes[order], return_index=True, return_counts=True)
        repeated = np.flatnonzero(counts > 1)
        for rank, i in enumerate(repeated[np.argsort(-counts[repeated], kind="stable")].tolist()):
            first, again = positions[order[start[i] : start[i] + 2]].tolist()
            twin = place(shards, first)
            detail = f"{counts[i]} times, first in {twin.key}"
            where = place(shards, again)
            if rank < findings.most:  # becomes an example: its member is looked up by a read
                twin = twin._replace(member=_caption_member(shards, first, modality))
                where = where._replace(member=_caption_member(shards, again, modality))
            findings.add("text/duplicate", where, detail, twin, n=int(counts[i]) - 1)


def _caption_member(shards: Shards, position: int, modality: str) -> str:
    names = [name for name in shards.read(position)[0] if not name.startswith("__")]
    captions = [name for name in names if name.startswith(f"{modality}.") and name.endswith(f".{TEXT}")]
    return captions[0] if captions else find_mapped(modality, shards.members, names) or ""


def like(twin: Place, bits: int = 0) -> str:
    """Return the detail of a case with a twin. bits: number of bits in which their prints differ."""
    name = f"{twin.key}.{twin.member}" if twin.member else twin.key
    return f"as {name}; {bits} of 128 bits differ" if bits else f"as {name}"
