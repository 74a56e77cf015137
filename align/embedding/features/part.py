"""A part of a set: the rows of one source shard, read, encoded and written block by block."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from align.data import Loader, Shards
from align.data.bad import Bad, Budget
from align.data.columns.format import BLOCK, part_path, record_path
from align.data.columns.part import PartWriter, Record
from align.data.grades import in_words
from align.data.meta import read_meta
from align.data.places.servers import Remote, Unreachable, fetch_whole, stat
from align.data.places.urls import Location
from align.embedding.features.block import Block
from align.embedding.features.encode import Want, encode
from align.files import sha256
from align.model import JointModel
from align.model.eval_view import EvalReader
from align.values import Batch


@final
@dataclass
class Work:
    """The work of one process on a set.

    members: as for ``Shards``. batch: positions that are encoded together, a divisor of BLOCK, so that no batch lies in
    two blocks. workers: processes that read and decode. budget: counts the bad samples of all parts. advance: called
    with the number of positions that were just encoded.
    """

    model: JointModel
    want: Want
    members: Mapping[str, Sequence[str]]
    batch: int
    workers: int
    budget: Budget
    advance: Callable[[int], None] = lambda n: None


def write_part(work: Work, place: Location, cache: Path, name: str, known: str | None = None) -> None:
    """Write the part of a source shard in the set ``name`` of a cache. It appears whole, or not at all.

    known: the shard's SHA-256 in the cache, where the cache has it.

    Raises ValueError for a shard with another SHA-256 and as ``encode`` does, Unreachable for a remote shard that
    cannot be read, TooManyBad, and OSError on a full disk.
    """
    source = hash_shard(place)
    if known not in (None, source):
        raise ValueError(
            f"{place} has changed: its sha256 is {source[:12]}…, {cache} has {str(known)[:12]}…; name another --out"
        )
    path = part_path(cache, name, place.name)
    for file in (path, record_path(path)):
        for left in path.parent.glob(f".{file.name}.*.tmp"):  # of a killed process
            left.unlink(missing_ok=True)
    with PartWriter(cache, name, place.name, source=source) as part:
        for block in read_blocks(work, place):
            part.add(block.start, block.count, block.tensors(), block.about())


def hash_shard(place: Location) -> str:
    """Return the SHA-256 of a shard's file. A remote shard is read whole for it."""
    if isinstance(place, Path):
        return sha256(place)
    if not isinstance(place, Remote):
        raise ValueError(f"{place} is no file; a cache is made of shards that have a name and a checksum")
    sums = hashlib.sha256()
    with closing(fetch_whole(place, stat(place))) as chunks:
        for chunk in chunks:
            sums.update(chunk)
    return sums.hexdigest()


def read_blocks(work: Work, place: Location) -> Iterator[Block]:
    """Yield the blocks of a shard, each when it is full. No more than one is in memory."""
    shards = Shards([place], shuffle=False, members=work.members, max_bad=1)
    found: list[Bad] = []

    def record(bad: Sequence[Bad]) -> list[Bad]:
        found.extend(bad)
        return [*bad]

    readers = {m: work.model.preprocess[m] for m in work.want.modalities}
    counted: Any = {"share": record, "budget": Budget(1)}  # the budget of the whole set counts below
    loader = Loader(shards, readers, batch=work.batch, workers=work.workers, train=False, marks=True, **counted)
    reader, block = EvalReader(work.model), Block(0, place.name)
    try:
        for batch in loader:
            if any(bad.reason == "shard/unreachable" for bad in found):
                raise Unreachable(f"{place} cannot be read; the same command goes on when it can")
            first = int(batch.position[0])
            keys = shards.indexes[0].keys[first : first + batch.size]
            for m, rows in encode(reader, batch.to(work.model.device), work.want, first, keys).items():
                block.rows.setdefault(m, []).append(rows)
            _add_facts(block, shards, batch, keys)
            block.bad += found
            work.budget.add(found, batch.size)
            found.clear()
            work.advance(batch.size)
            if block.count >= BLOCK:
                yield block
                block = Block(block.start + block.count, place.name)
        if block.count:
            yield block
    finally:
        loader.close()
        shards.close()


def _add_facts(block: Block, shards: Shards, batch: Batch, keys: Sequence[str]) -> None:
    """Add keys, labels, groups, weights and grades, also for positions without a row."""
    block.keys += keys
    for i, position in enumerate(batch.position.tolist()):
        weight = None if batch.weight is None else float(batch.weight[i])
        if batch.ids[i]:
            group = -1 if batch.group is None else int(batch.group[i])
            label = batch.labels[i]
            grade = {pair: int(column[i]) for pair, column in (batch.grade or {}).items() if column[i]}
        else:
            sample, _ = shards.read(position, 0, frozenset(), stride=0)
            meta, _ = read_meta(sample, shards.members)
            label, group, grade = meta.label, meta.group, meta.grade
        block.labels.append(label)
        block.groups.append(group)
        block.weights.append(weight)
        block.grades.append(in_words(grade))


def read_bad(part: Path, record: Record) -> Iterator[Bad]:
    """Yield the bad members of a part, as its blocks have them."""
    with open(part, "rb") as file:
        for block in record.blocks:
            file.seek(block.json_offset)
            for position, reason, member in json.loads(file.read(block.json_length))["bad"]:
                yield Bad(reason, part.name, "", member, position)
