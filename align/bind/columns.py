"""Columns of caches in memory: the rows of each column beside those of the anchor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from align.bind.matching import Side
from align.data.columns.column import Column
from align.data.columns.format import ColumnName, SourceShard, parse_column
from align.data.columns.opening import Joined, join_caches

PIECE = 4096  # samples that are read at a time


class Pairs(NamedTuple):
    """Rows of a column and of the anchor over the same shards. A sample has the same number in all pairs."""

    modality: str
    rows: Side
    anchor: Side
    column: Column
    anchor_column: Column


class Opened(NamedTuple):
    """All pairs, and facts of the samples by number.

    units: (samples,) name of the unit that a split keeps together: the group, or the sample itself. shards: names.
    shard: (samples,) index of the sample's shard in ``shards``.
    """

    anchor: str
    pairs: list[Pairs]
    units: list[str]
    shard: Tensor
    shards: list[str]


def open_pairs(columns: Sequence[str], via: str | None = None) -> Opened:
    """Return the rows of columns ``CACHE/SET:MODALITY``, each beside the anchor's over the same shards.

    via: the anchor's modality, by default that of the last column. Several columns may have it, one for each cache, all
    of one tower. The others have a modality each. Stored values keep their precision.

    Raises ValueError for columns without an anchor or of shards that do not join, for two anchors of different towers,
    for rows of another width, and for a damaged block. Raises FileNotFoundError where a cache is not there.
    """
    names = [parse_column(text) for text in columns]
    anchor = via or names[-1].modality
    anchors = [name for name in names if name.modality == anchor]
    others = [name for name in names if name.modality != anchor]
    _check(names, anchor, anchors, others)
    numbers: dict[str, int] = {}  # sha256 of a shard -> the number of its first sample
    shards: list[SourceShard] = []
    pairs: list[Pairs] = []
    groups: list[Tensor] = []
    for name in others:
        joined = _join(name, anchors)
        for shard in joined.shards:
            if shard.sha256 not in numbers:
                numbers[shard.sha256] = sum(other.samples for other in shards)
                shards.append(shard)
        at = [torch.arange(shard.samples) + numbers[shard.sha256] for shard in joined.shards]
        number = torch.cat(at) if at else torch.zeros(0, dtype=torch.int64)
        a, b = joined.columns[name.modality], joined.columns[anchor]
        pairs.append(Pairs(name.modality, read_side(a, number), read_side(b, number), a, b))
        groups.append(torch.stack([number, _groups(b)]))
    _check_anchor(pairs)
    group = torch.full((sum(shard.samples for shard in shards),), -1)
    for number, of in groups:
        group[number] = of
    return Opened(anchor, pairs, *_list_units(shards, group))


def _check(
    names: Sequence[ColumnName], anchor: str, anchors: Sequence[ColumnName], others: Sequence[ColumnName]
) -> None:
    found = ", ".join(dict.fromkeys(name.modality for name in names))
    if not anchors:
        raise ValueError(f"via names {anchor!r}, which no column has; the columns have {found}")
    if not others:
        raise ValueError(f"a column to bind is needed beside {anchors[-1]}: all columns have {found}, the anchor")
    modalities = [name.modality for name in others]
    for name in others:
        if modalities.count(name.modality) > 1:
            raise ValueError(
                f"two columns have the modality {name.modality}; give one of them, or make {name.modality} the anchor "
                "with via"
            )


def _join(name: ColumnName, anchors: Sequence[ColumnName]) -> Joined:
    """Return a column and the first anchor whose shards are its own."""
    errors = []
    for anchor in sorted(anchors, key=lambda other: other.cache != name.cache):
        try:
            return join_caches({name.modality: str(name), anchor.modality: str(anchor)}, None, None)
        except ValueError as error:
            errors.append(error)
    raise errors[0]


def _check_anchor(pairs: Sequence[Pairs]) -> None:
    first = pairs[0].anchor_column
    for other in (p.anchor_column for p in pairs[1:]):
        for fact in ("weights", "preprocess", "kind", "unit", "width"):
            ours, theirs = getattr(first.info, fact), getattr(other.info, fact)
            if ours != theirs:
                shown = [str(x)[:12] for x in (ours, theirs)]
                raise ValueError(
                    f"{first.name} and {other.name} come from two towers: {fact} {shown[0]} and {shown[1]}; "
                    "the anchor's columns must come from one tower"
                )


def read_side(column: Column, number: Tensor) -> Side:
    """Return the rows of a column without hard negatives. number: (N,) of each sample."""
    values, owners = [], []
    for piece in np.array_split(np.arange(len(number)), max(1, -(-len(number) // PIECE))):
        found = column.rows(piece)
        if found.damaged.any():
            bad = column.reader.blocks[int(column.reader.locate(piece[found.damaged][:1])[0])].part.path
            raise ValueError(
                f"{bad} is damaged: a block has another checksum than its record; remove it and run the same "
                "`align embed` command"
            )
        kept = found.drop_negatives()
        values.append(kept.pooled)
        owners.append(piece[kept.owner])
    of = torch.from_numpy(np.concatenate(owners))
    return Side(torch.cat(values), number[of], _groups(column)[of])


def _groups(column: Column) -> Tensor:
    """Return (N,) int64, the group of each sample, -1 where it has none."""
    reader = column.reader
    parts = [np.zeros(0, dtype=np.int64)]
    for b, spot in enumerate(reader.blocks):
        stated = reader.about(b).group if reader.are_sound(np.array([b]))[0] else None
        parts.append(np.full(spot.block.count, -1) if stated is None else stated.astype(np.int64))
    return torch.from_numpy(np.concatenate(parts))


def _list_units(shards: Sequence[SourceShard], group: Tensor) -> tuple[list[str], Tensor, list[str]]:
    units, of = [], []
    for i, shard in enumerate(shards):
        stated = group[len(units) : len(units) + shard.samples].tolist()
        units += [f"group {g}" if g >= 0 else f"{shard.sha256} {at}" for at, g in enumerate(stated)]
        of += [i] * shard.samples
    return units, torch.tensor(of, dtype=torch.int64), [shard.name for shard in shards]
