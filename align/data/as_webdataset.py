"""Our shards as a webdataset pipeline, for code that composes one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from align.data.places.urls import Location

if TYPE_CHECKING:
    from webdataset.compat import WebDataset


def as_webdataset(places: Sequence[Location], shardshuffle: int, resampled: bool) -> WebDataset:
    """Return ``Shards.webdataset`` of these files."""
    names = []
    for place in places:
        if not isinstance(place, Path):
            raise ValueError(
                f"{place}: webdataset would read it by a command of its own (curl, a shell); give files on a disk"
            )
        name = str(place.absolute())  # a relative one with a colon would be a URL there
        if "#" in name or "?" in name:
            raise ValueError(f"{place}: webdataset takes '#' and '?' in a path as parts of a URL; rename it")
        names.append(name)
    from webdataset.compat import WebDataset
    from webdataset.shardlists import split_by_node

    return WebDataset(names, shardshuffle=shardshuffle or False, resampled=resampled, nodesplitter=split_by_node)
