"""Checks of a Loader's arguments: numbers that fit together, and a source that suits the preprocess."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from align.data.columns.columns import Columns
from align.data.mixing.overrides import Decoding
from align.data.mixing.sources import Sources
from align.data.reading import Reading
from align.data.views import check_views

if TYPE_CHECKING:
    from align.preprocess import Preprocess


def check_batch(batch: int, world: int) -> None:
    """Raise ValueError for a batch that so many ranks cannot share evenly."""
    if batch < 1 or batch % world:
        low = max(1, batch // world) * world
        near = f"{low} or {low + world}" if low < batch else str(low)
        raise ValueError(f"a batch of {batch} cannot be shared evenly by {world} ranks: make it {near}")


def check_numbers(batch: int, rank: int, world: int, workers: int, start_step: int, steps: int | None) -> None:
    """Raise ValueError for a batch as ``check_batch`` does, for a rank that is none, and for negative numbers."""
    check_batch(batch, world)
    if not 0 <= rank < world:
        raise ValueError(f"rank={rank} is none of the {world} ranks, 0 to {world - 1}")
    if workers < 0 or start_step < 0 or (steps is not None and steps < 0):
        raise ValueError(f"workers={workers}, start_step={start_step} and steps={steps} cannot be negative")


def check_source(
    shards: Reading, preprocess: Mapping[str, Preprocess], *, batch: int, train: bool, views: Mapping[str, int]
) -> Mapping[str, Decoding] | None:
    """Return the decoding of each source of a mixture, None of any other source.

    Raises ValueError where a source of training holds less than one batch or deals out others, where a cache does not
    suit the preprocess, and as ``check_views`` does.
    """
    if train and len(shards) < batch:
        raise ValueError(
            f"a batch of {batch} needs as many samples; {shards.name} … hold {len(shards)}: lower the batch"
        )
    decodings = None
    if isinstance(shards, Sources):
        if train and shards.batch not in (0, batch):
            raise ValueError(f"the mixture deals out batches of {shards.batch}, the loader asks for {batch}")
        decodings = shards.decodings(preprocess)
    for name, part in shards.sources.items() if isinstance(shards, Sources) else [("", shards)]:
        if isinstance(part, Columns):
            part.check(decodings[name].preprocess if decodings else preprocess)
        check_views(views, preprocess, part)
    return decodings
