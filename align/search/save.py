"""Files of the found samples, taken out of their shards and folders to be looked at and listened to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from align.files import atomic_write
from align.search.item import Hit
from align.search.members import read_members


def safe_name(name: str, most: int = 100) -> str:
    """Return a file name that stays in its folder: letters, digits, dot, dash and underscore, no dot in front."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".")[:most] or "_"


def save_hits(hits: Sequence[Hit], folder: str | Path) -> list[Path]:
    """Write every member of the found samples as FOLDER/RANK-KEY.MEMBER, and return the paths, by rank.

    No name in a shard chooses where something is written. Raises as ``align.search.members.read_members``, before
    anything of that sample is written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for hit in hits:
        for member, content in sorted(read_members(hit.item).items()):
            path = folder / f"{hit.rank:02d}-{safe_name(hit.item.key)}.{safe_name(member)}"
            with atomic_write(path) as file:
                file.write(content)
            written.append(path)
    return written
