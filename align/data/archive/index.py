"""The stored index of a shard: offset, size and checksum of each member, so that any sample is one seek away.

It stands beside the shard (``train-000000.tar.index.json``), or in the cache where the folder cannot be written. It is
trusted only while the shard's size and modification time agree. Otherwise the shard is scanned again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from align.data.archive.members import ShardIndex
from align.data.names import are_safe, split_name
from align.files import cache_dir, cache_name, read_json, write_json

SCHEMA = 1


def find_index(shard: Path) -> ShardIndex | None:
    """Return the index that stands beside the shard or in the cache, None where there is none to be trusted."""
    state = stamp(shard)
    return next((found for path in index_paths(shard) if (found := load_index(path, state)) is not None), None)


def stamp(shard: Path) -> dict[str, int]:
    """Return the state of a shard that its index must agree with: bytes, and the modification time in ns."""
    stat = shard.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def index_paths(shard: Path) -> list[Path]:
    """Return the paths at which the index of a shard may stand, the first choice first."""
    cached = cache_dir() / "index" / f"{cache_name(str(shard.resolve()))}.json"
    return [shard.with_name(shard.name + ".index.json"), cached]


def write_index(index: ShardIndex, shard: Path, state: dict[str, int]) -> None:
    """Write the index beside the shard, else into the cache. Where neither can be written, it is not stored."""
    content = index_json(index, state)
    for path in index_paths(shard):
        if path.parent == shard.parent and not os.access(path.parent, os.W_OK):
            continue
        try:
            write_json(path, content, indent=None)
            return
        except OSError:
            continue


def index_json(index: ShardIndex, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the index as JSON. state: it must agree when the index is loaded."""
    return {
        "schema": SCHEMA,
        "shard": dict(state),
        "notes": index.notes,
        "names": index.names,
        "keys": index.keys,
        **{column: getattr(index, column).tolist() for column in COLUMNS},
    }


COLUMNS = {"first": np.int64, "name": np.int32, "offset": np.int64, "size": np.int64, "crc32": np.int64}


def load_index(path: Path, state: Mapping[str, Any]) -> ShardIndex | None:
    """Return a stored index that fits the shard's present state and that ``parse_index`` accepts, else None."""
    try:
        content: Any = read_json(path)
        return parse_index(content, state["size"]) if content["shard"] == state else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def parse_index(content: Any, size: int) -> ShardIndex | None:
    """Return an index from its JSON, None where it is incomplete or impossible for a shard of ``size`` bytes.

    Names that no scan would have let pass are refused too: the index may come from the same stranger as the shard.
    """
    try:
        if content["schema"] != SCHEMA:
            return None
        columns = {column: np.array(content[column], dtype=dtype) for column, dtype in COLUMNS.items()}
        index = ShardIndex(content["keys"], names=content["names"], notes=dict(content["notes"]), **columns)
        members = len(index.name)
        first = index.first.tolist()
        whole = isinstance(index.keys, list) and all(column.ndim == 1 for column in columns.values())
        whole = whole and len(first) == len(index.keys) + 1 and first[0] == 0 and first[-1] == members
        whole = whole and all(a <= b for a, b in pairwise(first))
        whole = whole and len(index.offset) == len(index.size) == len(index.crc32) == members
        inside = members == 0 or bool(
            (index.offset >= 0).all()
            and (index.size >= 0).all()
            and (index.offset + index.size <= size).all()
            and index.name.min() >= 0
            and index.name.max() < len(index.names)
        )
        named = are_safe(index.keys) and all(split_name(f"key.{name}") == ("key", name) for name in index.names)
        return index if whole and inside and named else None
    except (ValueError, KeyError, TypeError, IndexError, OverflowError):
        return None
