"""The sources of a Loader: ``Shards``, ``Resampled``, a ``Pipeline`` and mixtures of them are such readings."""

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
    """Samples by (position, epoch), and the counts of what was bad.

    name: how messages call it; "": the first of ``urls``.
    Raises ValueError for streams or a block below 1, and for a max_bad that is no share.
    """

    counted: ClassVar[bool] = True
    """Whether ``modalities`` counts all samples; False: only the first ones."""

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
        self._counts: Counter[str] = Counter()  # of what was read, by reason
        self._first: dict[str, str] = {}  # where each reason was met first

    @abstractmethod
    def __len__(self) -> int:
        """Positions in an epoch."""

    @abstractmethod
    def read(
        self, position: int, epoch: int = 0, modalities: frozenset[str] | None = None, *, stride: int = 1
    ) -> tuple[Sample, list[Bad]]:
        """The sample at a position, and what of it could not be read (not counted here).

        modalities: read only the members of these, and what says label, group and weight; None reads every member.
        stride: this process reads every ``stride``-th position (ranks x workers), and that is fetched ahead; 0: no
            other than this one.
        """

    @property
    @abstractmethod
    def lost(self) -> list[Lost]:
        """What was missing before the first read: it has no position, but it is bad."""

    @abstractmethod
    def report(self) -> dict[str, int]:
        """What was bad, by reason: while indexing, and in everything read so far (also by a Loader's workers)."""

    @property
    def pipelines(self) -> list[str]:
        """Names of the pipelines in it: ``read`` gives their next sample, whatever the position."""
        return []

    def begin(self, rank: int, world: int) -> None:  # noqa: B027  what is read by position has no beginning
        """Called in each process that reads for this rank of ``world``, before its first ``read`` of a pass."""

    @abstractmethod
    def close(self) -> None:
        """Close the open files; reading opens them again."""

    @final
    def samples(self, epoch: int, *, rank: int = 0, world: int = 1, start: int = 0) -> Iterator[Sample]:
        """The samples at positions start + rank, start + rank + world, … of an epoch.

        A sample without a readable member is passed over and counted; the others keep their ``"__index__"``.
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
        """Count something bad; ``where`` (shard and key) is kept for the first of each reason."""
        self._counts[reason] += n
        self._first.setdefault(reason, where)

    @final
    def first(self, reason: str) -> str:
        """Where a reason was counted first; empty if unknown."""
        return self._first.get(reason, "")


def warn_of_double_reads(source: Reading, readers: int) -> None:
    """Log a warning where so many readers (ranks x workers) cannot own whole streams, which parts neighbours."""
    if source.block > 1 and source.streams % readers:
        log.warning(
            "%d readers (ranks x workers) do not divide the number of streams, %d: the order of samples is the same, "
            "but readers share streams, so neighbours in a shard are fetched singly, some bytes twice; %d would not",
            readers,
            source.streams,
            max(n for n in range(1, readers) if source.streams % n == 0),
        )


def check_by_position(source: Reading) -> None:
    """Raise ValueError where a pipeline is in it: validation and evaluation need every sample, each as often."""
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
