"""The interface of a Loader's sources: ``Shards``, ``Resampled``, a ``Pipeline`` and mixtures of them."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import ClassVar, final

from align.data.bad import Bad, Lost
from align.data.places.urls import Location
from align.values import Sample

log = logging.getLogger("align.data")


class Reading(ABC):
    """Samples by (position, epoch), and counts of the bad ones.

    name: its name in messages, "" for the first of ``urls``.
    Raises ValueError for streams or a block below 1, and for a max_bad that is no share.
    """

    counted: ClassVar[bool] = True
    """True where ``modalities`` counts all samples, False where only the first ones."""

    def __init__(
        self,
        urls: Sequence[Location],
        members: dict[str, list[str]],
        *,
        streams: int,
        block: int,
        max_bad: float,
        name: str = "",
    ):
        if streams < 1 or block < 1:
            raise ValueError(f"streams and block are at least 1; got streams={streams}, block={block}")
        if not 0 <= max_bad <= 1:
            raise ValueError(f"max_bad is a share from 0 to 1, not {max_bad}")
        self.urls, self.members, self.name = list(urls), members, name or str(urls[0])
        self.streams, self.block, self.max_bad = streams, block, max_bad
        self._counts: Counter[str] = Counter()  # of the samples read, by reason
        self._first: dict[str, str] = {}  # where each reason was met first

    @abstractmethod
    def __len__(self) -> int:
        """Return the positions in an epoch."""

    @abstractmethod
    def read(
        self, position: int, epoch: int = 0, modalities: frozenset[str] | None = None, *, stride: int = 1
    ) -> tuple[Sample, list[Bad]]:
        """Return the sample at a position, and its bad members, which are not counted here.

        modalities: read only the members of these, and those of label, group and weight. None reads every member.
        stride: this process reads every ``stride``-th position (ranks x workers), which are fetched ahead. 0: it reads
            this position alone.
        """

    @property
    def numbers(self) -> int:
        """The samples that have a ``number``."""
        return 0

    def number(self, position: int, epoch: int = 0) -> int:
        """Return the number of the sample at a position, the same in every epoch, or -1 where it has none."""
        return -1

    @property
    @abstractmethod
    def lost(self) -> list[Lost]:
        """Samples and members that were missing before the first read: bad, without a position."""

    @abstractmethod
    def report(self) -> dict[str, int]:
        """Return counts of the bad by reason: in indexing and in all that was read (also by a Loader's workers)."""

    @property
    def pipelines(self) -> list[str]:
        """Names of the pipelines in it, whose next sample ``read`` gives for any position."""
        return []

    def begin(self, rank: int, world: int) -> None:  # noqa: B027  reading by position has no beginning
        """Begin a pass, in each process that reads for this rank of ``world``, before its first ``read``."""

    @abstractmethod
    def close(self) -> None:
        """Close the open files. Reading opens them again."""

    @final
    def samples(self, epoch: int, *, rank: int = 0, world: int = 1, start: int = 0) -> Iterator[Sample]:
        """Yield the samples at positions start + rank, start + rank + world, … of an epoch.

        A sample without a readable member is passed over and counted. The others keep their ``"__index__"``.
        """
        if not 0 <= rank < world or start < 0:
            raise ValueError(f"rank={rank} of world={world} from start={start}: rank is 0..world-1, start at least 0")
        self.begin(rank, world)
        for position in range(start + rank, len(self), world):
            sample, bad = self.read(position, epoch, stride=world)
            for found in bad:
                self.count(found.reason, where=found.where)
            if not bad or any(not name.startswith("__") for name in sample):
                yield sample

    @final
    def count(self, reason: str, n: int = 1, where: str = "") -> None:
        """Count something bad. where: shard and key, kept for the first of each reason."""
        self._counts[reason] += n
        self._first.setdefault(reason, where)

    @final
    def first(self, reason: str) -> str:
        """Return the place (shard and key) at which a reason was counted first, "" if unknown."""
        return self._first.get(reason, "")


def warn_of_double_reads(source: Reading, readers: int) -> None:
    """Log a warning where this number of readers (ranks x workers) cannot own whole streams."""
    if source.block > 1 and source.streams % readers:
        log.warning(
            "%d readers (ranks x workers) do not divide the number of streams, %d: the order of samples is the same, "
            "but readers share streams, so neighbours in a shard are fetched singly, some bytes twice; %d would not",
            readers,
            source.streams,
            max(n for n in range(1, readers) if source.streams % n == 0),
        )


def check_by_position(source: Reading) -> None:
    """Raise ValueError for a source with a pipeline: validation and evaluation need every sample equally often."""
    if source.pipelines:
        raise ValueError(
            f"{', '.join(source.pipelines)}: a pipeline only trains; validation and evaluation read each sample once, "
            "from shards (align.data.build writes a pipeline's samples to shards)"
        )


def warn_of_pipelines(source: Reading) -> None:
    """Log a line where the order of samples is a pipeline's."""
    if source.pipelines:
        log.warning(
            "the samples of %s come in the pipeline's order: a stopped run goes on with its exact step and weights, "
            "and the pipeline begins anew",
            ", ".join(source.pipelines),
        )
