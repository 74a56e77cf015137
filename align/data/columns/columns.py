"""Columns: cached rows of modalities, by position, alone or beside the raw shards that they were made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from align.data.bad import Bad, Lost
from align.data.columns.column import Found
from align.data.columns.fitting import check_rows, is_direct
from align.data.columns.meta import MetaReader
from align.data.columns.opening import Joined, join_caches
from align.data.labels import class_names, merge_classes
from align.data.names import FOREIGN
from align.data.order import Orders
from align.data.order_file import Held, read_order
from align.data.reading import Reading
from align.data.shards import Shards
from align.media.array import ARRAY
from align.values import Batch, Sample

if TYPE_CHECKING:
    from align.preprocess import Preprocess


@final
class Columns(Reading):
    """Samples whose rows of some modalities come from caches, joined by position with each other and with raw shards.

    The order of samples is that of ``Shards`` with the same seed, so a run from a cache sees the batches that a live
    run sees. A modality that both the raw shards and a column have comes from the column. Without raw shards the key,
    label, group and weight of a sample come from the cache too.

    A damaged block is bad as a whole: its samples have no row of its columns, and count as ``MODALITY/checksum``. A
    member that was bad when the cache was written is counted each time its position is read, as in live training.

    Args:
        columns: modality -> ``CACHE/SET:MODALITY``.
        raw: the shards that the caches were made of, for the other modalities. None: no raw shard is read.
        shards: without raw: names of the caches' shards to read, globs such as ``train-*.tar``. None: all.
        seed, shuffle, streams, block, max_bad, order: as for ``Shards``. With raw, they are raw's.

    Raises FileNotFoundError for a cache or a part that is not there, ValueError for an unknown set or modality, for a
    cut part, and for caches and shards that do not hold the same samples.
    """

    def __init__(
        self,
        columns: Mapping[str, str],
        *,
        raw: Shards | None = None,
        shards: str | Sequence[str] | None = None,
        seed: int = 0,
        shuffle: bool = True,
        streams: int = 48,
        block: int | None = None,
        max_bad: float = 0.001,
        order: str | Path | None = None,
    ):
        joined: Joined = join_caches(columns, raw, shards)
        self.raw, self.columns, self.stated = raw, joined.columns, dict(columns)
        self.seed = seed if raw is None else raw.seed
        block = (1 if block is None else block) if raw is None else raw.block
        super().__init__(
            [part.path for part in joined.readers[0].parts] if raw is None else raw.urls,
            {**({} if raw is None else raw.members), **{m: [] for m in columns}},
            streams=streams if raw is None else raw.streams,
            block=block,
            max_bad=max_bad if raw is None else raw.max_bad,
        )
        self.shards, self._readers = joined.shards, joined.readers
        self.lengths = [shard.samples for shard in joined.shards]
        self._meta = MetaReader(joined.shards, joined.readers, FOREIGN if raw is None else raw.members)
        if order is not None and (raw is not None or not shuffle):
            raise ValueError(f"{order}: give the order to the raw shards, Shards(..., order=...), and leave shuffle on")
        held = [Held(shard.samples, shard.keys) for shard in joined.shards]
        clusters = None if order is None else read_order(order, held)
        shuffled = streams if shuffle else None
        self._orders = Orders(self.lengths, seed=seed, streams=shuffled, block=block, clusters=clusters)

    def __len__(self) -> int:
        """Return the number of samples."""
        return sum(self.lengths)

    def __repr__(self) -> str:
        return f"Columns({len(self)} samples, {', '.join(f'{m}: {c.name}' for m, c in self.columns.items())})"

    @property
    def numbers(self) -> int:
        """True: all samples have a number."""
        return len(self)

    def number(self, position: int, epoch: int = 0) -> int:
        """Return the number of the sample at a position in the unshuffled set."""
        return int(self._orders[epoch][position]) if self.raw is None else self.raw.number(position, epoch)

    def find_rows(self, modality: str, numbers: Sequence[int] | np.ndarray) -> Found:
        """Return the rows of a column by the numbers of samples."""
        return self.columns[modality].rows(np.asarray(numbers, dtype=np.int64))

    def read(
        self, position: int, epoch: int = 0, modalities: frozenset[str] | None = None, *, stride: int = 1
    ) -> tuple[Sample, list[Bad]]:
        """See ``Reading.read``. A row of a column is a decoded member, ``text.0.npy``, of its number in the sample."""
        if not 0 <= position < len(self):
            raise IndexError(f"position {position} of {len(self)}")
        cached = [m for m in self.columns if modalities is None or m in modalities]
        number = self.number(position, epoch)
        if self.raw is None:
            sample, bad = self._meta.sample(number, position), []
        else:
            wanted = None if modalities is None else modalities - {*cached}
            sample, bad = self.raw.read(position, epoch, wanted, stride=stride)
            sample = {name: x for name, x in sample.items() if not self._is_cached(name)}
        bad += self._meta.find_bad(number, {m: self.columns[m] for m in cached}, alone=self.raw is None)
        for m in cached:
            found = self.find_rows(m, [number])
            sample.update(_members(m, found))
        return sample, bad

    def batch(
        self, positions: Sequence[int], epoch: int, preprocess: Mapping[str, Preprocess]
    ) -> tuple[Batch, list[Bad]]:
        """Return the samples at some positions as ``align.data.collate.piece`` would, without a loop over rows.

        It is called only where ``is_direct`` is True. Hard negatives have the ``mark`` of their sample, which
        ``align.data.join`` replaces by -1.
        """
        numbers = self._orders[epoch][np.asarray(positions, dtype=np.int64)]
        cached = {m: self.columns[m] for m in preprocess if m in self.columns}
        return self._meta.batch(numbers, positions, cached, preprocess)

    def is_direct(self, preprocess: Mapping[str, Preprocess]) -> bool:
        """Return True where ``batch`` may replace ``read``: no raw shards, and no preprocess with work on a row."""
        return self.raw is None and is_direct(preprocess)

    def check(self, preprocess: Mapping[str, Preprocess]) -> None:
        """Raise ValueError where the rows of a column do not fit the preprocess of its modality, with both widths."""
        for m, column in self.columns.items():
            if m in preprocess:
                check_rows(m, column, preprocess[m])

    def _is_cached(self, name: str) -> bool:
        return name.partition(".")[0] in self.columns

    @cached_property
    def modalities(self) -> dict[str, int]:
        """Modality -> the number of samples with a row of it."""
        found = {} if self.raw is None else dict(self.raw.modalities)
        return dict(sorted((found | {m: column.present for m, column in self.columns.items()}).items()))

    @cached_property
    def classes(self) -> dict[str, list[str]]:
        """Attribute -> class names, from the raw shards, else from the labels in the cache."""
        if self.raw is not None:
            return self.raw.classes
        return merge_classes([class_names(self._meta.labels())])

    @property
    def lost(self) -> list[Lost]:
        """Samples and members that the indexing of the raw shards left out."""
        return [] if self.raw is None else self.raw.lost

    def report(self) -> dict[str, int]:
        """Return counts of the bad by reason: in indexing and in all that was read (also by a Loader's workers)."""
        total = Counter(self._counts) + Counter({} if self.raw is None else self.raw.report())
        return dict(sorted(total.items()))

    def close(self) -> None:
        """Unmap the parts, and close the raw shards. Reading opens them again."""
        for reader in self._readers:
            reader.close()
        if self.raw is not None:
            self.raw.close()


def _members(modality: str, found: Found) -> dict[str, Any]:
    """Return the rows of one sample as decoded members."""
    out: dict[str, Any] = {}
    suffix = ARRAY.suffixes[0]
    for i, negative in enumerate(found.negative.tolist()):
        values = found.values
        row = values[i].numpy() if not isinstance(values, dict) else _tokens(values, i)
        out[f"{modality}.neg.{i}.{suffix}" if negative else f"{modality}.{i}.{suffix}"] = row
    return out


def _tokens(values: dict[str, Any], i: int) -> np.ndarray:
    """Return (1 + L, W): the pooled row, then the row's tokens."""
    tokens = values["tokens"][i][values["mask"][i]]
    return np.concatenate([values["pooled"][i][None].numpy(), tokens.numpy()])
