"""Samples of a source that are still to be embedded, each with its entry."""

from __future__ import annotations

from typing import final

import numpy as np

from align.data.bad import Bad, Lost
from align.data.reading import Reading
from align.search.building.entry import shard_place, write_entry
from align.values import Sample

TEXTS = frozenset({"text"})


@final
class Chosen(Reading):
    """Some positions of a source. Captions and json are read with each sample and become its entry.

    A batch's ``source`` is the entry of each sample, see ``align.search.building.entry``. So a sample is read a single
    time, by a data worker, and its entry comes with its rows.

    Args:
        source: shards in their own order, or a folder's files.
        positions: (n,) int64.
    """

    def __init__(self, source: Reading, positions: np.ndarray):
        urls = source.urls
        super().__init__(urls, source.members, streams=source.streams, block=source.block, max_bad=1, name=source.name)
        self.source, self.positions = source, positions

    def __len__(self) -> int:
        return len(self.positions)

    def read(
        self, position: int, epoch: int = 0, modalities: frozenset[str] | None = None, *, stride: int = 1
    ) -> tuple[Sample, list[Bad]]:
        """See ``Reading.read``. Texts are read too, whatever the modalities."""
        wanted = None if modalities is None else modalities | TEXTS
        sample, bad = self.source.read(int(self.positions[position]), epoch, wanted, stride=stride)
        mark = sample.pop("__mark__", None)
        if mark is None:
            source = {"shard": shard_place(sample["__url__"]), "key": sample["__key__"]}
        else:
            paths = {member: state[0] for member, state in mark.items()}
            source = {"file": sample["__url__"], "members": paths}
        sample["__source__"] = write_entry(sample, self.members, source, mark)
        sample["__index__"] = position
        return sample, bad

    @property
    def lost(self) -> list[Lost]:
        return self.source.lost

    def report(self) -> dict[str, int]:
        return self.source.report()

    def close(self) -> None:
        self.source.close()
