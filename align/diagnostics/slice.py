"""The slice: a few fixed samples of a run's shards, decoded one time, that every measurement embeds anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from align.data import Concat, Loader, Mixture
from align.data.bad import Budget
from align.data.join import join
from align.data.mixing.sources import Part
from align.values import Batch

if TYPE_CHECKING:
    from align.preprocess import Preprocess

ROOM = 256 << 20
"""Bytes of decoded samples that the slice may take, over all ranks. Larger samples are fewer."""
TRIED = 4
"""Samples that are decoded first, to learn how large one is."""


@final
@dataclass(frozen=True)
class Slice:
    """Samples of this rank.

    parts: batches of at most a step's size, equally many on all ranks. first: number of this rank's first sample among
    those of all ranks. size: of the samples of all ranks. labels: of this rank's samples. of: "val" or "train".
    """

    parts: Sequence[Batch]
    first: int
    size: int
    of: str

    @property
    def labels(self) -> list[Any]:
        """Labels of this rank's samples, None where one has none."""
        return [label for part in self.parts for label in (part.labels or [None] * part.size)]

    @property
    def groups(self) -> Tensor:
        """(B,) int64: the group of each of this rank's samples, -1 for none."""
        none = [torch.full((part.size,), -1) if part.group is None else part.group for part in self.parts]
        return torch.cat(none)


@final
@dataclass
class SliceReader:
    """Reader of the slice, which is decoded when it is first asked for.

    train, val: the shards of the run. preprocess: modality -> its preprocess. batch: samples in a step, over all ranks.
    rows: samples of the slice at most.
    """

    train: Part | Mixture
    val: Part | Concat | None
    preprocess: Mapping[str, Preprocess]
    batch: int
    rows: int
    _read: dict[tuple[int, int], Slice] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of samples of the slice before their size in memory is known. 0: the shards cannot be read so."""
        source = self._source
        return 0 if source.pipelines else min(self.rows, len(source))

    def read(self, rank: int, world: int) -> Slice | None:
        """Return a rank's share of the slice. None: a pipeline alone trains, or there are fewer samples than ranks."""
        if (rank, world) not in self._read:
            found = self._decode(rank, world)
            if found is None:
                return None
            self._read[rank, world] = found
        return self._read[rank, world]

    def _decode(self, rank: int, world: int) -> Slice | None:
        count, source = self.size, self._source
        if count < world:
            return None
        tried = self._load(range(0, count, max(1, count // TRIED)), len(source) // count)
        size = sum(count_bytes(one) for one in tried) / max(1, len(tried))
        if size * count > ROOM:
            count = max(world, int(ROOM / size))
        each = count // world  # equally many, so that the ranks run their towers equally often
        stride, first = len(source) // (each * world), rank * each
        samples = self._load(range(first, first + each), stride)
        most = max(1, self.batch // world)
        parts = [join(samples[i : i + most]) for i in range(0, each, most)]
        return Slice(parts, first, each * world, "train" if self.val is None else "val")

    def _load(self, numbers: range, stride: int) -> list[Batch]:
        """Return single samples, as a validation decodes them. Bad members leave holes and are counted nowhere."""
        loader = Loader(
            self._source,
            self.preprocess,
            batch=1,
            train=False,
            start_step=numbers.start * stride,
            steps=len(numbers),
            stride=numbers.step * stride,
            budget=Budget(1.0),
        )
        return list(loader)

    @property
    def _source(self) -> Part | Mixture | Concat:
        return self.train if self.val is None else self.val


def count_bytes(batch: Batch) -> int:
    """Return the bytes of all values of a batch."""
    total = 0
    for rows in batch.values():
        values = rows.values.values() if isinstance(rows.values, dict) else [rows.values]
        total += sum(x.numel() * x.element_size() for x in values)
    return total
