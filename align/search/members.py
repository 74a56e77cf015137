"""Files of an item: its members in a shard, found by the shard's index, or its own files on the disk."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from align.data import Shards
from align.data.archive.build import read_index
from align.data.archive.index import stamp
from align.data.archive.members import ShardIndex
from align.data.names import CODE
from align.data.places.servers import Remote
from align.search.item import Item

_remote = Lock()  # a prefetch belongs to one thread at a time


def list_members(item: Item) -> dict[str, int]:
    """Return member name -> bytes, without reading the members. Pickles are none of them.

    Raises as ``read_members``.
    """
    if item.source.get("members"):
        return {name: _state(path).st_size for name, path in _files(item).items()}
    index, i = _find(item)
    sizes = index.size[index.first[i] : index.first[i + 1]].tolist()
    return {name: size for name, size in zip(index.members(i), sizes, strict=True) if _is_read(name)}


def read_members(item: Item, members: Iterable[str] | None = None) -> dict[str, bytes]:
    """Return member name -> content, of all members of an item or of those named.

    A member of a shard is found by the shard's index and compared with its checksum. An item of a folder has its files,
    unchanged: a mesh is ``points.obj`` here, and ``align.media`` converts it.

    Raises FileNotFoundError where the shard or a file is gone, ValueError where the shard has no such sample any more,
    the item has no such member, or a member is damaged. Raises OSError for a server that does not answer.
    """
    have = list_members(item)
    wanted = list(have) if members is None else list(members)
    for name in wanted:
        if name not in have:
            raise ValueError(f"{item.key!r} has no member {name!r}; it has {', '.join(have) or 'none'}")
    if item.source.get("members"):
        files = _files(item)
        return {name: _read_file(files[name]) for name in wanted}
    return _read_shard(item, wanted)


def _files(item: Item) -> dict[str, Path]:
    members: Mapping[str, Any] = item.source["members"]
    return {str(name): Path(path) for name, path in members.items()}


def _state(path: Path) -> Any:
    try:
        if path.is_file():
            return path.stat()
    except OSError as error:
        raise FileNotFoundError(f"{path} cannot be read: {error.strerror}") from None
    raise FileNotFoundError(f"{path} is gone since it was indexed; align index add finds what has changed")


def _read_file(path: Path) -> bytes:
    _state(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileNotFoundError(f"{path} cannot be read: {error.strerror}") from None


def _find(item: Item) -> tuple[ShardIndex, int]:
    index, places = _open(item)
    i = places.get(item.key)
    if i is None:
        raise ValueError(f"{item.place} has changed: it has no sample {item.key!r} now; index it again")
    return index, i


def _open(item: Item) -> tuple[ShardIndex, dict[str, int]]:
    place = item.place
    if place.startswith("pipe:"):
        raise ValueError(f"{item.key!r} came from a command ({place}), whose output is not kept")
    if "://" in place:
        opened, places = _open_remote(place)
        return opened.indexes[0], places
    path = Path(place)
    if not path.is_file():
        raise FileNotFoundError(f"the shard {path} is gone since it was indexed")
    state = stamp(path)
    return _open_local(path, state["size"], state["mtime_ns"])


@lru_cache(maxsize=256)
def _open_local(path: Path, size: int, mtime_ns: int) -> tuple[ShardIndex, dict[str, int]]:
    """Open a shard's index in the shard's present state, which size and time of change tell."""
    index = read_index(path)
    return index, {key: i for i, key in enumerate(index.keys)}


@lru_cache(maxsize=16)
def _open_remote(url: str) -> tuple[Shards, dict[str, int]]:
    opened = Shards(Remote(url), shuffle=False, max_bad=1)
    return opened, {key: i for i, key in enumerate(opened.indexes[0].keys)}


def _read_shard(item: Item, wanted: list[str]) -> dict[str, bytes]:
    index, i = _find(item)
    if "://" in item.place:
        with _remote:
            sample, bad = _open_remote(item.place)[0].read(i, stride=0)
        for name in wanted:
            if name not in sample:
                reason = next((found.reason for found in bad if found.member in (name, "")), "unreadable")
                raise ValueError(f"{item.place}: member {name!r} of {item.key!r} cannot be had ({reason})")
        return {name: sample[name] for name in wanted}
    first, found = int(index.first[i]), {}
    at = {name: first + n for n, name in enumerate(index.members(i))}
    with open(item.place, "rb") as file:
        for name in wanted:
            file.seek(int(index.offset[at[name]]))
            data = file.read(int(index.size[at[name]]))
            if zlib.crc32(data) != index.crc32[at[name]]:
                raise ValueError(f"{item.place}: member {name!r} of {item.key!r} is damaged: its checksum is wrong")
            found[name] = data
    return found


def _is_read(name: str) -> bool:
    return name.rpartition(".")[2] not in CODE
