"""Files of the found samples, taken out of the shards to be looked at and listened to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from align.data import Shards
from align.data.places.patterns import one_path
from align.files import atomic_write
from align.search.query import Hit


def safe_name(name: str, most: int = 100) -> str:
    """Return a file name that stays in its folder: letters, digits, dot, dash and underscore, no dot in front."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".")[:most] or "_"


def save_hits(hits: Sequence[Hit], folder: str | Path) -> list[Path]:
    """Write every member of the found samples as FOLDER/RANK-KEY.MEMBER, and return the paths, by rank.

    No name in a shard chooses where something is written. Raises FileNotFoundError where a shard is gone, ValueError
    where it no longer has the sample.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    wanted: dict[str, dict[str, list[Hit]]] = {}
    for hit in hits:
        wanted.setdefault(hit.item["shard"], {}).setdefault(hit.item["key"], []).append(hit)
    written: list[tuple[int, Path]] = []
    for shard, keys in wanted.items():
        left = dict(keys)
        for sample in Shards(one_path(shard), shuffle=False, max_bad=1).samples(0):
            for hit in left.pop(sample["__key__"], []):
                for member, content in sorted(sample.items()):
                    if isinstance(content, bytes):
                        path = folder / f"{hit.rank:02d}-{safe_name(hit.item['key'])}.{safe_name(member)}"
                        with atomic_write(path) as file:
                            file.write(content)
                        written.append((hit.rank, path))
            if not left:
                break
        if left:
            raise ValueError(f"{shard} no longer has the sample {next(iter(left))!r}; run align embed again")
    return [path for _, path in sorted(written)]
