"""Pieces of batches from one cache or a mixture of caches, without a loop over rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from align.data.bad import Bad
from align.data.columns.columns import Columns
from align.data.join import join
from align.data.mixing.sources import Sources
from align.data.reading import Reading
from align.values import Batch

if TYPE_CHECKING:
    from align.preprocess import Preprocess


def is_direct(source: Reading, preprocess: Mapping[str, Preprocess]) -> bool:
    """Return True where ``read_direct`` reads this source: caches alone, with rows that no preprocess changes."""
    if isinstance(source, Columns):
        return source.is_direct(preprocess)
    if not isinstance(source, Sources) or source.overrides:
        return False
    parts = [part for part in source.sources.values() if isinstance(part, Columns) and part.is_direct(preprocess)]
    ragged = any(column.info.tokens for part in parts for column in part.columns.values())
    return len(parts) == len(source.sources) and not (ragged and len(parts) > 1)  # each pads to its own longest


def read_direct(
    source: Reading, positions: Sequence[int], epoch: int, preprocess: Mapping[str, Preprocess]
) -> tuple[Batch, list[Bad]]:
    """Return the samples at some positions as ``align.data.collate.piece`` would. Hard negatives name their samples."""
    if isinstance(source, Columns):
        return source.batch(positions, epoch, preprocess)
    if not isinstance(source, Sources):
        raise TypeError(f"{source!r} is no mixture of caches")
    places: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for position in positions:
        turn = source.turn(position, epoch)
        places.setdefault((turn.source, turn.epoch), []).append((position, turn.position))
    parts, bad = [], []
    for (name, its_epoch), pairs in places.items():
        part = source.sources[name]
        ours, theirs = zip(*pairs, strict=True)
        if not isinstance(part, Columns):
            raise TypeError(f"source {name!r} is no cache")
        batch, faults = part.batch(theirs, its_epoch, preprocess)
        names = [name if key else "" for key in batch.ids]
        parts.append(replace(batch, position=torch.tensor(ours, dtype=torch.int64), source=names))
        back = dict(zip(theirs, ours, strict=True))
        bad += [fault._replace(position=back[fault.position]) for fault in faults]
    if not parts:
        return next(iter(source.sources.values())).batch([], 0, preprocess)  # pyright: ignore[reportAttributeAccessIssue]
    return join(parts, marks=True), sorted(bad, key=lambda fault: fault.position)
