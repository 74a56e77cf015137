"""The one change that brings an index up to a stock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from align.data import Shards
from align.search.building.changes import Changes, gather, spread
from align.search.building.chosen import Chosen
from align.search.building.embed import SAMPLES, join_pieces
from align.search.building.roots import root_id
from align.search.building.staging import Block
from align.search.building.stock import Stock, tell
from align.search.item import Item
from align.values import Embeddings, Rows


class Changing(Protocol):
    """A change of an index that is being made, such as ``align.search.local.LocalIndex.change`` gives."""

    def add(self, rows: Mapping[str, Rows], items: Sequence[Item]) -> Tensor: ...
    def remove(self, numbers: Iterable[int]) -> int: ...
    def source(self, place: str, mark: Any) -> None: ...


class Filled(NamedTuple):
    """Samples that were removed and added, and portions that gave no row."""

    removed: int = 0
    added: int = 0
    unread: int = 0


def fill(
    change: Changing,
    stock: Stock,
    changes: Changes,
    blocks: Iterable[Block],
    known: Mapping[str, Mapping[str, Any]],
    later: str = "",
) -> Filled:
    """Remove the samples of portions that changed or are gone, and add those of the blocks.

    A place's mark gets ``numbers``, the ranges of its samples' numbers, by which they are found when it changes. A
    file that gave no row is noted without numbers, and is tried again.

    known: place -> the mark that the index notes. later: SHA-256 of the model that made the blocks, where it is not the
    index's first. The mark of a place has it as ``model``.
    """
    old = [stock.portions[i].note for i in (*changes.changed, *changes.again)]
    gone = [number for place in (*old, *changes.gone) for number in spread(known[place].get("numbers", ()))]
    removed = change.remove(gone) if gone else 0
    for place in (*old, *changes.gone):
        change.source(place, None)
    portions = {tell(stock.portions[i]): stock.portions[i] for i in changes.todo}
    numbers: dict[str, list[list[int]]] = {}
    marks: dict[str, Any] = {}
    added = 0
    for block in blocks:
        kept = torch.tensor([place in portions for place in block.places], dtype=torch.bool)
        places = [place for place in block.places if place in portions]
        entries = [entry for entry, keep in zip(block.items(), kept.tolist(), strict=True) if keep]
        if not entries:
            continue
        found = change.add(_keep(block.rows, kept), [item for item, _ in entries]).tolist()
        added += len(found)
        some: dict[str, list[int]] = {}
        for place, number, (_, mark) in zip(places, found, entries, strict=True):
            some.setdefault(place, []).append(number)
            if mark is not None:
                marks[place] = mark
        for place, theirs in some.items():
            numbers.setdefault(place, []).extend(gather(theirs))
    root, unread = root_id(stock.root), 0
    for name, portion in portions.items():
        ranges = gather(spread(numbers.get(name, ())))
        files = {"files": marks[name]} if name in marks else {}
        maker = {"model": later} if later else {}
        change.source(portion.note, {**portion.mark, **files, "root": root, "numbers": ranges, **maker})
        unread += not ranges and "digest" not in portion.mark
    for i in changes.moved:
        place = stock.portions[i].note
        change.source(place, {**known[place], **_restamp(known[place], stock.portions[i].mark)})
    return Filled(removed, added, unread)


def blocks_of(embeddings: Embeddings, opened: Shards, stock: Stock) -> Iterator[Block]:
    """Yield embeddings that are made already as blocks. Captions and json are read from the shards.

    Raises ValueError where a sample of the embeddings is not the shards' at its position.
    """
    names = [tell(portion) for portion in stock.portions]
    ends = np.cumsum([portion.n for portion in stock.portions])
    order = np.argsort(embeddings.position.numpy(), kind="stable")
    if not np.array_equal(order, np.arange(len(order))):
        raise ValueError("the embeddings are not in the order of the shards; open these with shuffle=False")
    positions = embeddings.position.numpy()
    reading = Chosen(opened, positions)
    for start in range(0, embeddings.size, SAMPLES):
        piece = embeddings.slice(start, start + SAMPLES)
        piece.source = []
        for i, key in enumerate(piece.ids, start):
            sample = reading.read(i, 0, frozenset())[0] if positions[i] < len(opened) else {}
            if sample.get("__key__") != key:
                raise ValueError(f"position {positions[i]} of the shards is {sample.get('__key__')!r}, was {key!r}")
            piece.source.append(sample["__source__"])
        yield join_pieces([(piece, positions[start : start + piece.size])], names, ends)


def _keep(rows: Mapping[str, Rows], kept: Tensor) -> dict[str, Rows]:
    """Return the rows of some items. Those of others get place -1, at which they are left out."""
    place = torch.where(kept, kept.cumsum(0) - 1, -1)
    return {m: Rows(part.values, place[part.sample]) for m, part in rows.items() if part.n}


def _restamp(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a mark that say when its files were written."""
    stamps = {name: new[name] for name in ("size", "mtime_ns") if name in new}
    files = {m: [*state[:3], old["files"][m][3]] for m, state in new.get("files", {}).items()}
    return {**stamps, **({"files": files} if files else {})}
