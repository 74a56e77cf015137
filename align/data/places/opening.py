"""Opening of shards: the index of each is loaded or made before the first sample is read.

The ranks of a run, or any processes that share the cache, divide this pass. A shard is indexed, under a lock, by the
first process that comes to it. The others go on to the next and load its index when they come back.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from align.data.archive.build import build_index, read_index, warn
from align.data.archive.index import find_index, index_json, load_index, parse_index
from align.data.archive.members import ShardIndex
from align.data.places.keep import Pipe, keep
from align.data.places.manifest import read_counts
from align.data.places.servers import Remote, Unreachable, fetch_small, fetch_whole, stat
from align.data.places.urls import Location
from align.files import atomic_write, cache_dir, cache_name, write_json
from align.files.http import Stat
from align.files.lock import hold_lock

TOGETHER = 16  # questions to servers at a time
Progress = Callable[[int, int], None]
log = logging.getLogger("align.data")


def open_shards(
    urls: Sequence[Location], cache: int, progress: Progress | None = None
) -> tuple[list[ShardIndex], list[Stat | Unreachable | None]]:
    """Return the index of each shard, and its server's statement (None for a local file).

    progress: called with (indexed, shards without an index). Without it a line is logged every 15 seconds.
    Raises FileNotFoundError or OSError for a remote shard that cannot be reached and whose length nothing tells.
    """
    say = progress or _Lines()
    about: list[Stat | Unreachable | None] = _ask(urls)
    found: list[ShardIndex | None] = [_load_known(place, state) for place, state in zip(urls, about, strict=True)]
    missing = deque(i for i, index in enumerate(found) if index is None)
    total, turn = len(missing), len(missing)
    while missing:
        i = missing.popleft()
        with hold_lock(cache_dir() / "index" / f"{digest(urls[i])}.lock", wait=turn <= 0) as ours:
            turn -= 1
            if not ours:
                missing.append(i)
                continue
            place, index = urls[i], _load_known(urls[i], about[i])
            try:
                found[i] = _make(place, about[i], cache) if index is None else index
            except Unreachable as error:  # it answered, and then its bytes did not come
                if not isinstance(place, Remote):
                    raise
                found[i], about[i] = _index_unreachable(place, error), error
        say(total - len(missing), total)
    return [index for index in found if index is not None], about


def digest(place: Location) -> str:
    """Return the name of a shard's files in the cache."""
    whole = place.url if isinstance(place, Remote) else str(place.resolve() if isinstance(place, Path) else place)
    return cache_name(whole)


def _ask(urls: Sequence[Location]) -> list[Stat | Unreachable | None]:
    remote = [place for place in urls if isinstance(place, Remote)]
    if not remote:
        return [None] * len(urls)
    with ThreadPoolExecutor(min(TOGETHER, len(remote))) as pool:
        answers = dict(zip(remote, pool.map(_stat, remote), strict=True))
    return [answers[place] if isinstance(place, Remote) else None for place in urls]


def _stat(remote: Remote) -> Stat | Unreachable:
    try:
        return stat(remote)
    except Unreachable as error:
        return error


def _load_known(place: Location, about: Stat | Unreachable | None) -> ShardIndex | None:
    """Return an index that is there already and can be trusted, else None."""
    if isinstance(place, Path):
        return find_index(place)
    if isinstance(place, Remote) and isinstance(about, Stat):
        return load_index(_path(place), _state(about))
    return None


def _make(place: Location, about: Stat | Unreachable | None, cache: int) -> ShardIndex:
    if isinstance(place, Path):
        return read_index(place)
    if isinstance(place, Pipe):
        return _index_whole(place, None, cache)
    if not isinstance(about, Stat):
        return _index_unreachable(place, about)
    index = _fetch_index(place, about.size) or _scan_remote(place, about, cache)
    with suppress(OSError):  # it is only not remembered
        write_json(_path(place), index_json(index, _state(about)), indent=None)
    return index


def _fetch_index(remote: Remote, size: int | None) -> ShardIndex | None:
    """Fetch the index beside a remote shard. It must be of a shard of this size, unless the size is unknown (None)."""
    data = fetch_small(remote.parent / (remote.name + ".index.json"))
    if data is None:
        return None
    try:
        content: Any = json.loads(data)
        said = int(content["shard"]["size"])
        return parse_index(content, said) if size in (None, said) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _index_whole(place: Remote | Pipe, about: Stat | None, cache: int) -> ShardIndex:
    path = keep(place, about, cache)
    with _rename_errors(path, place):
        return read_index(path)


@contextmanager
def _rename_errors(path: Path, place: Location) -> Iterator[None]:
    """Reword a ValueError about a file in the cache, so that it names the shard that the file holds."""
    try:
        yield
    except ValueError as error:
        raise ValueError(str(error).replace(str(path), str(place))) from None


def _scan_remote(remote: Remote, about: Stat, cache: int) -> ShardIndex:
    """Make the index by one pass over the shard, through a file in the cache that is removed afterwards."""
    if not about.ranges:
        return _index_whole(remote, about, cache)
    path = cache_dir() / "index" / f"{digest(remote)}.scan"
    try:
        with atomic_write(path) as file:
            for chunk in fetch_whole(remote, about):
                file.write(chunk)
        with _rename_errors(path, remote):
            index = build_index(path)
    finally:
        path.unlink(missing_ok=True)
    warn(remote, index)
    return index


def _index_unreachable(remote: Remote, error: Unreachable | None) -> ShardIndex:
    """Return an index from the one beside the shard, or one of bare positions by the count in the manifest.

    So the other shards keep their positions. Raises the error where neither tells the number of samples.
    """
    index = _fetch_index(remote, None)
    if index is not None:
        return index
    count = (read_counts(remote.parent) or {}).get(remote.name)
    if count is not None:
        none = np.zeros(0, dtype=np.int64)
        keys = [f"#{i}" for i in range(count)]
        return ShardIndex(keys, np.zeros(count + 1, dtype=np.int64), [], none.astype(np.int32), none, none, none, {})
    kind = FileNotFoundError if error is not None and error.missing else OSError
    raise kind(f"{error}; how many samples it has is not known either: remove it from the list, or come back later")


def _path(remote: Remote) -> Path:
    return cache_dir() / "index" / f"{digest(remote)}.json"


def _state(about: Stat) -> dict[str, Any]:
    return {"size": about.size, "etag": about.etag, "modified": about.modified}


class _Lines:
    """Log lines of a long pass: at most one every 15 seconds."""

    def __init__(self) -> None:
        self.said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self.said > 15:
            log.warning("indexing shards that have no index: %d of %d", done, total)
            self.said = time.monotonic()
