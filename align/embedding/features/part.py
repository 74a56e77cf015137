"""A part of a set: the rows of one source shard, read, encoded and written block by block."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import IO, Any, final

from align.data import Loader, Shards
from align.data.archive.tar import BLOCK as TAR_BLOCK
from align.data.archive.tar import RECORD, header, padding
from align.data.bad import Bad, Budget, is_fault
from align.data.columns.format import BLOCK
from align.data.meta import read_meta
from align.data.places.servers import Remote, Unreachable, fetch_whole, stat
from align.data.places.urls import Location
from align.embedding.features.block import Block, plain
from align.embedding.features.encode import Want, encode
from align.files import atomic_write, sha256, write_json
from align.model import JointModel
from align.model.eval_view import EvalReader


class Work:
    """The work of one process: its model, and the way in which it reads.

    Args:
        members: as for ``Shards``.
        batch: positions that are encoded together. It divides a block, so that no batch spans two.
        workers: processes that read and decode.
        budget: counts the bad samples of all parts.
        advance: called with the number of positions that were just encoded.
    """

    def __init__(
        self,
        model: JointModel,
        want: Want,
        *,
        members: Mapping[str, list[str]],
        batch: int,
        workers: int,
        budget: Budget,
        advance: Any,
    ):
        self.model, self.want, self.members = model, want, members
        self.batch, self.workers, self.budget, self.advance = batch, workers, budget, advance


def write_part(work: Work, place: Location, folder: Path, known: str | None = None) -> dict[str, Any]:
    """Write the part of a source shard, and the facts of it beside it. Return the facts.

    The part appears whole, or not at all. known: the shard's SHA-256 in the cache, where it has one.

    Raises ValueError for a shard with another one and as ``encode`` does, Unreachable for a remote shard that cannot be
    read, TooManyBad, and OSError on a full disk.
    """
    source = hash_shard(place)
    if known not in (None, source):
        raise ValueError(
            f"{place} is not the shard that the cache was made from: its sha256 is {source[:12]}…, the cache has "
            f"{str(known)[:12]}…; name another --out"
        )
    name = part_name(place.name)
    for left in folder.glob(f".{name}.*.tmp"):  # of a killed process
        left.unlink(missing_ok=True)
    found: list[Bad] = []
    with atomic_write(folder / name) as file:
        tar = _Tar(file)
        for block in read_blocks(work, place):
            tar.add(block)
            found += block.bad
        tar.end()
    counts: dict[str, int] = {}
    for bad in found:
        counts[bad.reason] = counts.get(bad.reason, 0) + 1
    about = {
        "sha256": tar.sums.hexdigest(),
        "source": source,
        "samples": tar.samples,
        "blocks": tar.blocks,
        "about": tar.about,
        "counts": dict(sorted(counts.items())),
        "bad": [list(bad) for bad in plain([bad for bad in found if is_fault(bad.reason)])],
    }
    write_json(folder / facts_name(place.name), about, indent=None)
    return about


def part_name(shard: str) -> str:
    """Return the file name of a source shard's part."""
    return shard if shard.endswith(".tar") else f"{shard}.tar"


def facts_name(shard: str) -> str:
    """Return the name of the file of facts beside a part."""
    return f"{part_name(shard).removesuffix('.tar')}.json"


def hash_shard(place: Location) -> str:
    """Return the SHA-256 of a shard's file. A remote one is read whole for it."""
    if isinstance(place, Path):
        return sha256(place)
    if not isinstance(place, Remote):
        raise ValueError(f"{place} is no file; a cache is made of shards with a name and a checksum")
    sums = hashlib.sha256()
    with closing(fetch_whole(place, stat(place))) as chunks:
        for chunk in chunks:
            sums.update(chunk)
    return sums.hexdigest()


def read_blocks(work: Work, place: Location) -> Iterator[Block]:
    """Yield the blocks of a shard, each when it is full. No more than one is in memory."""
    shards = Shards([place], shuffle=False, members=work.members, max_bad=1)
    keys, found = shards.indexes[0].keys, []

    def record(bad: Any) -> list[Bad]:
        found.extend(bad)
        return list(bad)

    loader = Loader(
        shards,
        {m: work.model.preprocess[m] for m in work.want.modalities},
        batch=work.batch,
        workers=work.workers,
        train=False,
        share=record,
        budget=Budget(1),
        marks=True,
    )
    reader, block = EvalReader(work.model), Block(0, place.name)
    try:
        for batch in loader:
            first = int(batch.position[0])
            for bad in found:
                if bad.reason == "shard/unreachable":
                    raise Unreachable(f"{place} cannot be read; the same command goes on when it can")
            names = {first + i: keys[first + i] for i in range(batch.size)}
            for m, rows in encode(reader, batch.to(work.model.device), work.want, names).items():
                block.rows.setdefault(m, []).append(rows)
            _add_facts(block, shards, batch, list(names.values()))
            block.bad += found
            work.budget.add(found, batch.size)
            work.advance(batch.size)
            found.clear()
            if block.count >= BLOCK:
                yield block
                block = Block(block.start + block.count, place.name)
        if block.count:
            yield block
    finally:
        loader.close()
        shards.close()


def _add_facts(block: Block, shards: Shards, batch: Any, keys: list[str]) -> None:
    """Add keys, labels, groups and weights. Those of a position without a row come from the shard too."""
    for i, key in enumerate(keys):
        block.keys.append(key)
        if batch.ids[i]:
            block.labels.append(batch.labels[i])
            block.groups.append(-1 if batch.group is None else int(batch.group[i]))
        else:
            sample, _ = shards.read(int(batch.position[i]), 0, frozenset(), stride=0)
            meta, _ = read_meta(sample, shards.members)
            block.labels.append(meta.label)
            block.groups.append(meta.group)
        block.weights.append(None if batch.weight is None else float(batch.weight[i]))


@final
class _Tar:
    """A tar of blocks, and the places of the blocks in it."""

    def __init__(self, file: IO[bytes]):
        self.file, self.size, self.sums, self.samples = file, 0, hashlib.sha256(), 0
        self.blocks: list[list[int]] = []  # start, count, offset, length, crc32 of the tensors
        self.about: list[list[int]] = []  # offset, length, crc32 of the JSON

    def add(self, block: Block) -> None:
        tensors, about = block.write()
        number = block.start // BLOCK
        self.blocks.append([block.start, block.count, *self._member(f"{number:06d}.block.safetensors", tensors)])
        self.about.append(self._member(f"{number:06d}.block.json", about))
        self.samples += block.count

    def end(self) -> None:
        self._put(bytes(2 * TAR_BLOCK))
        self._put(padding(self.size, RECORD))

    def _member(self, name: str, content: bytes) -> list[int]:
        self._put(header(name, len(content)))
        place = [self.size, len(content), zlib.crc32(content)]
        self._put(content)
        self._put(padding(len(content)))
        return place

    def _put(self, content: bytes) -> None:
        self.file.write(content)
        self.sums.update(content)
        self.size += len(content)
