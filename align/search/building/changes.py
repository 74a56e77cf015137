"""Differences between a stock and an index: portions that are new, have changed, or are gone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from align.files import sha256
from align.search.building.roots import root_id
from align.search.building.stock import Portion, Stock


@dataclass
class Changes:
    """Portions by their numbers in the stock, and places that are gone.

    moved: numbers of unchanged portions whose files were written anew with the same content. again: numbers of
    unchanged portions that gave no row before.
    """

    new: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    same: list[int] = field(default_factory=list)
    moved: list[int] = field(default_factory=list)
    again: list[int] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)

    @property
    def todo(self) -> list[int]:
        """Portions to embed, in the order of the stock."""
        return sorted([*self.new, *self.changed, *self.again])


def compare(stock: Stock, known: Mapping[str, Mapping[str, Any]]) -> Changes:
    """Return the differences. known: place -> the mark that the index notes.

    A place that the index has from another root, unchanged, is the same. Gone are places of this root alone.
    """
    found, root = Changes(), root_id(stock.root)
    for i, portion in enumerate(stock.portions):
        old = known.get(portion.note)
        if old is None:
            found.new.append(i)
        elif not is_same(old, portion.mark):
            found.changed.append(i)
        elif "files" in old and not old.get("numbers"):
            found.again.append(i)
        else:
            found.same.append(i)
            if any(old.get(name) != portion.mark.get(name) for name in ("size", "mtime_ns")) or _is_moved(old, portion):
                found.moved.append(i)
    here = {portion.note for portion in stock.portions}
    found.gone = [place for place, mark in known.items() if mark.get("root") == root and place not in here]
    return found


def is_same(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Return True where a portion has not changed since the index was made.

    Shards are compared by the checksums of their members. Files are compared by size and time of change, and by their
    SHA-256 where only the time differs.
    """
    if old.get("how", {}) != new.get("how", {}) or old.get("digest") != new.get("digest"):
        return False
    before, now = old.get("files", {}), new.get("files", {})
    if before.keys() != now.keys():
        return False
    return all(_is_same_file(before[member], now[member]) for member in now)


def _is_same_file(old: Any, new: Any) -> bool:
    path, size, time, checksum = old
    if (path, size) != (new[0], new[1]):
        return False
    try:
        return time == new[2] or (bool(checksum) and sha256(Path(path)) == checksum)
    except OSError:
        return False


def _is_moved(old: Mapping[str, Any], portion: Portion) -> bool:
    before, now = old.get("files", {}), portion.mark.get("files", {})
    return any(before[member][2] != now[member][2] for member in now)


def positions_of(stock: Stock, portions: Iterable[int]) -> np.ndarray:
    """Return the positions (n,) of all samples of some portions, in ascending order."""
    ends = np.cumsum([0, *(portion.n for portion in stock.portions)])
    parts = [np.arange(ends[i], ends[i + 1]) for i in sorted(portions)]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def spread(ranges: Iterable[Iterable[int]]) -> list[int]:
    """Return the numbers of ranges, each with its first and its last.

    >>> spread([[1, 3], [7, 7]])
    [1, 2, 3, 7]
    """
    return [number for first, last in ranges for number in range(first, last + 1)]


def gather(numbers: Iterable[int]) -> list[list[int]]:
    """Return the ranges of numbers.

    >>> gather([3, 1, 2, 7])
    [[1, 3], [7, 7]]
    """
    out: list[list[int]] = []
    for number in sorted(numbers):
        if out and number == out[-1][1] + 1:
            out[-1][1] = number
        else:
            out.append([number, number])
    return out
