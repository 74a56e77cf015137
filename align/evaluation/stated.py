"""Members of samples beside the rows of modalities: their json, and any others by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from align.data import Columns, Shards
from align.data.meta import read_meta
from align.data.names import member_modality
from align.values import Sample


def read_stated(shards: Shards | Columns, positions: Sequence[int]) -> list[dict[str, Any]]:
    """Return the json of the samples at some positions of epoch 0. It is {} where a sample has none that is sound.

    Raises ValueError for a cache without its raw shards, which keeps labels and groups of a json, and not the rest.
    """
    raw = _raw(shards, "no json")
    samples = (raw.read(position, 0, frozenset(), stride=0)[0] for position in positions)
    return [read_meta(sample, raw.members)[0].json or {} for sample in samples]


def read_members(shards: Shards | Columns, positions: Iterable[int], names: Sequence[str]) -> Iterator[Sample]:
    """Yield the samples at some positions of epoch 0 with these members, and those of modalities ("mask.png", "image").

    Raises ValueError for a cache without its raw shards.
    """
    raw = _raw(shards, "rows and no members")
    wanted = frozenset(member_modality(name) or name for name in names)
    for position in positions:
        yield raw.read(position, 0, wanted, stride=0)[0]


def _raw(shards: Shards | Columns, keeps: str) -> Shards:
    raw = shards.raw if isinstance(shards, Columns) else shards
    if raw is None:
        raise ValueError(f"{shards.name} is a cache, which keeps {keeps}; name the shards that it was made of")
    return raw
