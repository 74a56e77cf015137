"""Whether a shard set is what its manifest says: a missing, foreign or cut shard stops an evaluation."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from align.data import Shards
from align.data.index import index_of
from align.files import read_json


def counts(shards: Shards) -> dict[str, int]:
    """Shard -> samples. A shard is named by its file, with its folder where two have one name."""
    twice = {name for name, n in Counter(path.name for path in shards.urls).items() if n > 1}
    return {str(path) if path.name in twice else path.name: len(index_of(path)) for path in shards.urls}


def check_counts(shards: Shards) -> None:
    """Compare with the manifest.json beside the shards, where there is one.

    Raises ValueError where a shard has another number of samples than the manifest says, is not in it, or where one of
    the same split (``test-*.tar``) is in it and not on the disk.
    """
    for folder in dict.fromkeys(path.parent for path in shards.urls):
        stated = listed(folder)
        if stated is None:
            continue
        given = [path for path in shards.urls if path.parent == folder]
        for path in given:
            if path.name not in stated:
                raise ValueError(f"{path} is not in {folder / 'manifest.json'}; it lists {', '.join(sorted(stated))}")
            have, said = len(index_of(path)), stated[path.name]
            if have != said:
                raise ValueError(f"{path} has {have} samples, its manifest says {said}; copy the shard again")
        splits = {split(path.name) for path in given}
        gone = sorted(name for name in stated if split(name) in splits and not (folder / name).is_file())
        if gone:
            raise ValueError(f"{folder / gone[0]} is missing: manifest.json lists it ({stated[gone[0]]} samples)")


def split(name: str) -> str:
    """What stands before the number: ``test`` of ``test-000000.tar``."""
    return name.rpartition("-")[0]


def listed(folder: Path) -> dict[str, int] | None:
    """Shard name -> samples, as the folder's manifest says; None where it has none."""
    path = folder / "manifest.json"
    if not path.is_file():
        return None
    manifest: Any = read_json(path)
    shards = manifest.get("shards") if isinstance(manifest, dict) else None
    if not isinstance(shards, dict):
        return None
    return {name: about["samples"] for name, about in shards.items()}
