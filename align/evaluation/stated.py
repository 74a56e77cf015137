"""Contents of the samples' json members, read without their media."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from align.data import Columns, Shards
from align.data.meta import read_meta


def read_stated(shards: Shards | Columns, positions: Sequence[int]) -> list[dict[str, Any]]:
    """Return the json of the samples at some positions of epoch 0. It is {} where a sample has none that is sound.

    Raises ValueError for a cache without its raw shards, which keeps labels and groups of a json, and not the rest.
    """
    raw = shards.raw if isinstance(shards, Columns) else shards
    if raw is None:
        raise ValueError(f"{shards.name} is a cache, which keeps no json; name the shards that it was made of")
    samples = (raw.read(position, 0, frozenset(), stride=0)[0] for position in positions)
    return [read_meta(sample, raw.members)[0].json or {} for sample in samples]
