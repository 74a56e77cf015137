"""Several named sources behind the interface of one."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from itertools import accumulate
from math import gcd
from typing import TYPE_CHECKING, NamedTuple, final

import numpy as np

from align.data.bad import Bad, Lost
from align.data.columns.columns import Columns
from align.data.labels import merge_classes
from align.data.mixing.overrides import Decoding, check
from align.data.names import FOREIGN
from align.data.pipeline import Pipeline
from align.data.reading import Reading
from align.data.resampled import Resampled
from align.data.shards import Shards
from align.values import Sample

if TYPE_CHECKING:
    from align.preprocess import Preprocess


Part = Shards | Resampled | Pipeline | Columns
"""Types of a mixture's sources."""


class Turn(NamedTuple):
    """The source of the sample at a position, with the source's epoch and the position in it.

    off: a process that reads every r-th position reads this stream of the source too if r divides ``off``.
    """

    source: str
    epoch: int
    position: int
    off: int = 0


class Sources(Reading):
    """Several sources that a Loader reads as one. A subclass chooses the source of each position (``turn``).

    Each sample names its source as ``"__source__"``.

    Args:
        sources: name -> Shards, each with its own urls, members, streams and seed (or ``Resampled``, a ``Pipeline`` or
            ``Columns``).
        overrides: source -> modality -> the preprocess that decodes and augments its members. Its rows must have the
            shape and dtype of the model's. Collating and the work on the device stay the model's.
        batch: the batch that a training Loader must have, 0 for any.

    Raises ValueError for no source, or overrides of a source that is not there.
    """

    def __init__(
        self,
        sources: Mapping[str, Part],
        overrides: Mapping[str, Mapping[str, Preprocess]] | None = None,
        *,
        batch: int = 0,
    ):
        if not sources or "" in sources:
            raise ValueError("a mixture needs sources, each with a name")
        for name in overrides or {}:
            if name not in sources:
                raise ValueError(f"overrides name {name!r}, which is no source; there are: {', '.join(sources)}")
        self.sources, self.batch = dict(sources), batch
        self.overrides = {name: dict(readers) for name, readers in (overrides or {}).items()}
        super().__init__(
            [url for source in sources.values() for url in source.urls],
            FOREIGN,  # for a sample without a source. Each source has its names
            streams=gcd(*(source.streams for source in sources.values() if not source.pipelines)) or 1,
            block=max(source.block for source in sources.values()),
            max_bad=min(source.max_bad for source in sources.values()),
            name=next(source.name for source in sources.values()),
        )

    @abstractmethod
    def turn(self, position: int, epoch: int) -> Turn:
        """Return the source of a position of an epoch, and the place in the source."""

    @final
    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} positions an epoch from {', '.join(self.sources)})"

    @final
    def read(
        self, position: int, epoch: int = 0, modalities: frozenset[str] | None = None, *, stride: int = 1
    ) -> tuple[Sample, list[Bad]]:
        """See ``Reading.read``."""
        if not 0 <= position < len(self):
            raise IndexError(f"position {position} of {len(self)}")
        name, its_epoch, its_position, off = self.turn(position, epoch)
        alone = stride > 0 and off % stride > 0
        sample, bad = self.sources[name].read(its_position, its_epoch, modalities, stride=0 if alone else stride)
        sample |= {"__index__": position, "__source__": name}
        return sample, bad

    @property
    def numbers(self) -> int:
        """The samples of all sources that have a number."""
        return sum(source.numbers for source in self.sources.values())

    @final
    def number(self, position: int, epoch: int = 0) -> int:
        """Return the number of the sample at a position, through the sources one after another, or -1."""
        name, its_epoch, its_position, _ = self.turn(position, epoch)
        number = self.sources[name].number(its_position, its_epoch)
        return number if number < 0 else number + self._starts[name]

    @cached_property
    def _starts(self) -> dict[str, int]:
        """Source -> the number of its first sample."""
        sizes = [source.numbers for source in self.sources.values()]
        return dict(zip(self.sources, accumulate(sizes[:-1], initial=0), strict=True))

    @property
    def pipelines(self) -> list[str]:
        """Names of the sources that are pipelines."""
        return [name for source in self.sources.values() for name in source.pipelines]

    @final
    def begin(self, rank: int, world: int) -> None:
        """Begin every source."""
        for source in self.sources.values():
            source.begin(rank, world)

    @final
    def decodings(self, preprocess: Mapping[str, Preprocess]) -> dict[str, Decoding]:
        """Return source -> its decoding: its member names, and ``preprocess`` with its overrides.

        Raises ValueError for an override of another modality, or one whose rows have another shape or dtype.
        """
        check(self.overrides, preprocess)
        return {
            name: Decoding(source.members, {**preprocess, **self.overrides.get(name, {})})
            for name, source in self.sources.items()
        }

    @cached_property
    def modalities(self) -> dict[str, int]:
        """Modality -> the number of samples of all sources with a row of it."""
        total = sum((Counter(source.modalities) for source in self.sources.values()), Counter[str]())
        return dict(sorted(total.items()))

    @cached_property
    def classes(self) -> dict[str, list[str]]:
        """Attribute -> class names, of all sources."""
        return merge_classes(source.classes for source in self.sources.values())

    @property
    def lost(self) -> list[Lost]:
        """Samples and members that the indexing of any source left out."""
        return [lost for source in self.sources.values() for lost in source.lost]

    @final
    def report(self) -> dict[str, int]:
        """Return counts of bad samples and members, by reason, over all sources."""
        total = sum((Counter(source.report()) for source in self.sources.values()), Counter(self._counts))
        return dict(sorted(total.items()))

    @final
    def close(self) -> None:
        """Close the open files of every source."""
        for source in self.sources.values():
            source.close()


@final
class Concat(Sources):
    """One source after another, each sample once an epoch: for evaluation on several sources."""

    def __len__(self) -> int:
        """Return the number of samples of all sources."""
        return int(self._ends[-1])

    def turn(self, position: int, epoch: int) -> Turn:
        """See ``Sources.turn``. The sources follow each other in the order in which they were named."""
        s = int(np.searchsorted(self._ends, position, side="right"))
        return Turn(list(self.sources)[s], epoch, position - (int(self._ends[s - 1]) if s else 0))

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum([len(source) for source in self.sources.values()])
