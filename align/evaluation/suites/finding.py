"""The shards of a set, below the folder that the recipes write to."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from align.data.places.benchmark import list_shards, list_splits
from align.evaluation.suites.sets import EvalSet, Place


class Found(NamedTuple):
    """A set that is there. shards: of its test split."""

    of: EvalSet
    place: Place
    shards: list[Path]

    @property
    def is_benchmark(self) -> bool:
        """True for a folder in CLIP_benchmark's layout."""
        return self.place.layout == "clip_benchmark"


def find_set(of: EvalSet, data: Path) -> Found | str:
    """Return the first place of a set that has shards, else the reason why there is none, in one line.

    Raises FileNotFoundError where CLIP_benchmark's nshards.txt counts a shard that is missing.
    """
    empty = []
    for place in of.places:
        folder = data / place.folder
        if not folder.is_dir():
            continue
        if place.layout == "clip_benchmark":
            split = "test" if "test" in list_splits(folder) else ""
            shards = list_shards(folder / split) if split else None
        else:
            shards = sorted(folder.glob(place.shards))
        if shards:
            return Found(of, place, shards)
        empty.append(f"{folder} has no {place.shards or 'test/nshards.txt'}")
    return "; ".join(empty) or f"no {data / of.places[0].folder}"
