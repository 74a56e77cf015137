"""``align shards mine`` finds hard negatives in a cache and writes them beside the samples."""

from __future__ import annotations

from align.commands.errors import Refused


def mine_negatives(cache: str, /, *, of: str) -> None:
    """Find hard negatives in a cache, and write them as .neg rows

    Args:
        cache: the cache
        of: the modality whose rows are the negatives
    """
    raise Refused("not there yet", code=2)
