"""The check of shards against their manifest: a missing, foreign or cut shard stops an evaluation."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from align.data import Shards
from align.data.places.manifest import read_counts


def counts(shards: Shards) -> dict[str, int]:
    """Return shard -> samples. A shard is named by its file, with its folder where two have one name."""
    twice = {name for name, n in Counter(path.name for path in shards.urls).items() if n > 1}
    names = [str(path) if path.name in twice else path.name for path in shards.urls]
    return dict(zip(names, shards.lengths, strict=True))


def check_counts(shards: Shards) -> None:
    """Compare with the manifest.json beside the shards, where there is one.

    Raises ValueError where a shard is not in it or has another number of samples than it says, and where one of the
    same split (``test-*.tar``) is in it and not on the disk. With or without a manifest, two shards that share a sample
    to the byte are refused: one is a copy of the other, and samples that count twice give a wrong number.
    """
    for folder in dict.fromkeys(place.parent for place in shards.urls):
        counted = read_counts(folder)
        if counted is None:
            continue
        given = {place: n for place, n in zip(shards.urls, shards.lengths, strict=True) if place.parent == folder}
        for place, have in given.items():
            if place.name not in counted:
                raise ValueError(
                    f"{place} is not in the manifest.json of {folder}; it lists {', '.join(sorted(counted))}"
                )
            if have != counted[place.name]:
                said = counted[place.name]
                raise ValueError(f"{place} has {have} samples, its manifest says {said}; copy the shard again")
        splits = {split(place.name) for place in given}
        if not isinstance(folder, Path):
            continue  # a server is not asked for shards that nobody named
        gone = sorted(name for name in counted if split(name) in splits and not (folder / name).is_file())
        if gone:
            raise ValueError(f"{folder / gone[0]} is missing: manifest.json lists it ({counted[gone[0]]} samples)")
    if (copy := shards.copies()) is not None:
        raise ValueError(f"{copy[1]} holds sample {copy[2]!r} of {copy[0]} again, byte for byte; leave one of them out")


def split(name: str) -> str:
    """Return the part of a shard's name before its number: ``test`` of ``test-000000.tar``."""
    return name.rpartition("-")[0]
