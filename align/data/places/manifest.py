"""The manifest.json beside shards, on the disk or on their server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from align.data.archive.members import ShardIndex
from align.data.bad import Lost
from align.data.places.keep import Pipe
from align.data.places.servers import Remote, fetch_small
from align.files import read_json

LOST_SAMPLES = ("sample/cut", "sample/lost")
LOST = (*LOST_SAMPLES, "shard/unsafe-name", "shard/duplicate-member", "shard/no-file")
"""Reasons in an index's notes that stand for lost samples or members."""


def read_manifest(folder: Path | Remote | Pipe) -> dict[str, Any] | None:
    """Return the manifest of a folder of shards, None where there is none. Raises ValueError for a local non-JSON."""
    if isinstance(folder, Pipe):
        return None
    if isinstance(folder, Remote):
        data = fetch_small(folder / "manifest.json", most=1 << 26)
        try:
            found = json.loads(data) if data is not None else None
        except (ValueError, RecursionError):
            return None
    else:
        found = read_json(folder / "manifest.json") if (folder / "manifest.json").is_file() else None
    return found if isinstance(found, dict) else None


def read_counts(folder: Path | Remote | Pipe) -> dict[str, int] | None:
    """Return shard name -> samples, as the folder's manifest states them, None without a manifest."""
    shards = (read_manifest(folder) or {}).get("shards")
    if not isinstance(shards, dict):
        return None
    return {
        name: int(about["samples"])
        for name, about in shards.items()
        if isinstance(about, dict) and isinstance(about.get("samples"), int) and about["samples"] >= 0
    }


def count_missing(places: Sequence[Path | Remote | Pipe], indexes: Sequence[ShardIndex]) -> dict[str, int]:
    """Return damaged shard -> samples that its manifest states and that neither the index nor its notes count.

    Only shards count that are empty or whose scan noted something. For the others no manifest is read.
    """
    damaged = [(at, index) for at, index in zip(places, indexes, strict=True) if index.notes or not len(index)]
    counted = {place.parent: read_counts(place.parent) or {} for place, _ in damaged}
    out = {}
    for place, index in damaged:
        known = len(index) + sum(index.notes.get(reason, 0) for reason in LOST_SAMPLES)
        out[str(place)] = max(0, counted[place.parent].get(place.name, 0) - known)
    return out


def find_lost(
    places: Sequence[Path | Remote | Pipe], indexes: Sequence[ShardIndex], missing: Mapping[str, int]
) -> list[Lost]:
    """Return the samples and members that the indexing had to leave out. missing: from ``count_missing``."""
    found = []
    for place, index in zip(map(str, places), indexes, strict=True):
        notes = {reason: index.notes.get(reason, 0) for reason in LOST}
        notes["sample/lost"] += missing.get(place, 0)
        found += [Lost(place, reason, n) for reason, n in notes.items() if n]
    return found
