"""One set of a cache over the shards of a training: its parts in their order, and the blocks in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, final

import numpy as np

from align.data.columns.format import CacheInfo, SourceShard, part_path
from align.data.columns.part import BlockEntry
from align.data.columns.part_file import About, PartFile, TensorPlace

UNKNOWN, SOUND, DAMAGED = 0, 1, 2


class Spot(NamedTuple):
    """A block and its part."""

    part: PartFile
    block: BlockEntry


@final
class SetReader:
    """Parts of a set, and their blocks. Samples are numbered through all shards.

    Raises FileNotFoundError for a part that is not there, ValueError for a cut one and for one of other shards.
    """

    def __init__(self, info: CacheInfo, name: str, shards: Sequence[SourceShard]):
        self.folder: Path = info.folder / name
        self.model, self.sha256 = info.sets[name].model, info.sets[name].sha256
        self.published = info.sets[name].parts
        self.modalities = frozenset(info.sets[name].columns)
        self.parts = [PartFile(part_path(info.folder, name, shard.name)) for shard in shards]
        for part, shard in zip(self.parts, shards, strict=True):
            record = part.record
            if record.source != shard.sha256 or record.samples != shard.samples:
                raise ValueError(
                    f"{part.path} was made of another shard than {info.folder / 'cache.json'} names: "
                    f"{record.samples} samples of sha256 {record.source[:12]}, not {shard.samples} of "
                    f"{shard.sha256[:12]}; remove it and run the same `align embed` command"
                )
        self.blocks = [Spot(part, block) for part in self.parts for block in part.record.blocks]
        self.of_part = np.repeat(np.arange(len(self.parts)), [len(part.record.blocks) for part in self.parts])
        self.first = np.cumsum([0, *(spot.block.count for spot in self.blocks)], dtype=np.int64)  # (blocks + 1,)
        self._state = np.full(len(self.blocks), UNKNOWN, dtype=np.int8)
        self._about: dict[int, About] = {}

    def locate(self, numbers: np.ndarray) -> np.ndarray:
        """Return (n,) the block of each sample."""
        return np.searchsorted(self.first, numbers, side="right") - 1

    def are_sound(self, blocks: np.ndarray) -> np.ndarray:
        """Return (n,) bool, True for a sound block. A block is checked at its first use."""
        unknown = blocks[self._state[blocks] == UNKNOWN]
        for b in np.unique(unknown).tolist():
            spot = self.blocks[b]
            self._state[b] = SOUND if spot.part.is_sound(spot.block) else DAMAGED
        return self._state[blocks] == SOUND

    def condemn(self, block: int) -> None:
        """Count a block as damaged."""
        self._state[block] = DAMAGED

    def find_tensors(self, block: int) -> dict[str, TensorPlace]:
        """Return the places of a block's tensors, {} where its header is damaged."""
        return self.blocks[block].part.find_tensors(self.blocks[block].block)

    def read(self, block: int, place: TensorPlace) -> np.ndarray:
        """Return a copy of a block's tensor."""
        return self.blocks[block].part.read(place)

    def about(self, block: int) -> About:
        """Return the json of a sound block, and keep it for later calls."""
        if block not in self._about:
            spot = self.blocks[block]
            about = self._about[block] = spot.part.about(spot.block)
            places = self.find_tensors(block)
            about.group, about.weight = (
                self.read(block, places[name]) if name in places else None for name in ("group", "weight")
            )
        return self._about[block]

    def close(self) -> None:
        """Unmap the parts."""
        for part in self.parts:
            part.close()
