"""Columns of several caches and raw shards, opened and joined: the same shards with the same samples in all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from align.data.columns.column import Column
from align.data.columns.format import (
    CacheInfo,
    ColumnName,
    SourceShard,
    find_column,
    hash_keys,
    parse_column,
    read_cache,
)
from align.data.columns.set_reader import SetReader
from align.data.places.manifest import read_manifest
from align.data.places.urls import Location
from align.data.shards import Shards


class Joined(NamedTuple):
    """Opened columns over the same shards. readers: their sets, without repeats."""

    shards: list[SourceShard]
    columns: dict[str, Column]
    readers: list[SetReader]


def open_cache(name: str, *, shards: str | Sequence[str] | None = None) -> Column:
    """Return one column, ``CACHE/SET:MODALITY``, over all shards of its cache or those that the globs name.

    Raises as ``Columns``.
    """
    column = parse_column(name)
    return join_caches({column.modality: name}, None, shards).columns[column.modality]


def join_caches(columns: Mapping[str, str], raw: Shards | None, shards: str | Sequence[str] | None) -> Joined:
    """Return the columns over the shards of ``raw``, or over the shards of the first cache that match ``shards``."""
    if not columns:
        raise ValueError("columns names no column; write {text: CACHE/SET:text}")
    if raw is not None and shards is not None:
        raise ValueError("shards chooses among the shards of a cache, but urls names the shards: leave shards out")
    names = {m: parse_column(text) for m, text in columns.items()}
    caches: dict[Path, CacheInfo] = {}
    for name in names.values():
        if name.cache not in caches:
            caches[name.cache] = read_cache(name.cache)
    facts = {m: find_column(caches[name.cache], name) for m, name in names.items()}
    first = next(iter(names.values()))
    wanted = _choose(caches[first.cache], shards) if raw is None else _from_raw(raw)
    together = {folder: _match(info, wanted, None if raw is None else raw) for folder, info in caches.items()}
    for folder, found in together.items():
        _compare(together[first.cache], found, first.cache, folder)
    readers: dict[tuple[Path, str], SetReader] = {}
    opened = {}
    for m, name in names.items():
        if (name.cache, name.set) not in readers:
            readers[name.cache, name.set] = SetReader(caches[name.cache], name.set, together[name.cache])
        opened[m] = Column(ColumnName(*name), facts[m], readers[name.cache, name.set])
    return Joined(together[first.cache], opened, [*readers.values()])


def _choose(info: CacheInfo, patterns: str | Sequence[str] | None) -> list[str]:
    """Return the names of a cache's shards that match."""
    given = [patterns] if isinstance(patterns, str) else patterns
    names = [shard.name for shard in info.shards]
    for pattern in given or ():
        if not any(fnmatchcase(name, pattern) for name in names):
            raise FileNotFoundError(f"no shard of {info.folder} matches {pattern}; it has {_some(names)}")
    if not names:
        raise ValueError(f"{info.folder} has no shards")
    return names if given is None else [name for name in names if any(fnmatchcase(name, p) for p in given)]


def _from_raw(raw: Shards) -> list[str]:
    names = [place.name for place in raw.urls]
    if twice := [name for name, n in Counter(names).items() if n > 1]:
        raise ValueError(f"two shards are named {twice[0]}; a cache joins shards by their names, so rename one")
    return names


def _match(info: CacheInfo, names: Sequence[str], raw: Shards | None) -> list[SourceShard]:
    """Return a cache's shards of these names. Raises ValueError where one is missing or is not the raw shard."""
    known = {shard.name: shard for shard in info.shards}
    if missing := [name for name in names if name not in known]:
        raise ValueError(f"{info.folder} has no shard {missing[0]}; it has {_some([*known])}")
    found = [known[name] for name in names]
    if raw is not None:
        for place, index, shard in zip(raw.urls, raw.indexes, found, strict=True):
            _check_raw(info, place, index.keys, shard)
    return found


def _check_raw(info: CacheInfo, place: Location, keys: Sequence[str], shard: SourceShard) -> None:
    if len(keys) != shard.samples:
        odd = f"{len(keys)} samples, not {shard.samples}"
    elif hash_keys(keys) != shard.keys:
        odd = "other keys"
    elif (stated := _stated_sha256(place)) not in (None, shard.sha256):
        odd = f"sha256 {str(stated)[:12]}, not {shard.sha256[:12]}"
    else:
        return
    raise ValueError(f"{info.folder} was made of another {shard.name} than {place}, which has {odd}: embed it anew")


def _stated_sha256(place: Location) -> str | None:
    """Return the checksum of a shard in the manifest beside it, None where there is none."""
    try:
        about = (read_manifest(place.parent) or {}).get("shards")
    except (OSError, ValueError):
        return None
    stated = about.get(place.name) if isinstance(about, dict) else None
    return stated.get("sha256") if isinstance(stated, dict) else None


def _compare(ours: Sequence[SourceShard], theirs: Sequence[SourceShard], here: Path, there: Path) -> None:
    for a, b in zip(ours, theirs, strict=True):
        if a != b:
            odd = f"{a.samples} and {b.samples} samples" if a.samples != b.samples else "other content"
            raise ValueError(f"{here} and {there} were made of different shards {a.name} ({odd}): they do not join")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" … {names[-1]}" if len(names) > 3 else "") or "none"
