"""Shards drawn with replacement, for sets too large to count. The draws follow from the seed.

Stream s of ``streams`` is an endless line of shards. Its draw d is a function of (seed, s, d), and each drawn shard is
read in a new order. Position p of an epoch is position g = epoch · samples + p of the run and belongs to stream g mod
``streams``. No shard is opened before it is drawn, and nothing is counted beforehand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from math import lcm
from pathlib import Path
from typing import NamedTuple, final

from align.data.bad import Bad, Lost
from align.data.names import with_foreign
from align.data.places.source import usual_block
from align.data.places.urls import Location, resolve_shards
from align.data.reading import Reading, log
from align.data.shards import Shards
from align.seeds import derive
from align.values import Sample


class Spot(NamedTuple):
    """The spot of a stream: the number k of its next sample, its draw, the offset in the drawn shard's order."""

    k: int
    draw: int
    offset: int


@final
class Resampled(Reading):
    """Samples of shards that are drawn with replacement. They are read as ``Shards`` are, without any counts.

    A sample may come twice in an epoch, even twice in a batch, and another not at all: use it where an epoch is never
    finished anyway. Any number of ranks and workers sees the same order. A stopped run continues from ``state``.
    Without it the spots are found again by opening the index of every shard drawn so far. A remote shard that stays
    unreachable is counted a single time by each process (shard/unreachable), and its draws are passed over.

    Args:
        urls, seed, max_bad, members, allow_pipe: as for ``Shards``.
        samples: positions of an epoch, rounded down to a multiple of ``streams``, so that the streams stay with their
            readers from epoch to epoch.
        streams: independent lines of shards.
        block: as for ``Shards``, inside each drawn shard: 1 is a full shuffle of it.
    """

    counted = False

    def __init__(
        self,
        urls: str | Location | Sequence[str | Location],
        *,
        samples: int,
        seed: int = 0,
        streams: int = 48,
        block: int | None = None,
        max_bad: float = 0.001,
        members: Mapping[str, Sequence[str]] | None = None,
        allow_pipe: bool = False,
    ):
        places = resolve_shards(urls, allow_pipe=allow_pipe)
        block = usual_block(places) if block is None else block
        super().__init__(places, with_foreign(members), streams=streams, block=block, max_bad=max_bad)
        if samples < streams:
            raise ValueError(
                f"samples={samples} says how many samples an epoch has: at least one for each of {streams} streams"
            )
        self.stated, self.seed, self.allow_pipe = samples, seed, allow_pipe
        self._anchor = [Spot(0, 0, 0)] * streams
        self._at = list(self._anchor)
        self._open: dict[int, tuple[int, Shards]] = {}  # stream -> the draw that it is in, and its shard
        self._lengths: dict[int, int] = {}  # of the shards opened so far
        self._notes: dict[int, dict[str, int]] = {}  # of the same shards
        self._gone: list[Bad] = []  # shards that could not be reached, until a read says so

    def __len__(self) -> int:
        """Return the positions in an epoch."""
        return self.stated // self.streams * self.streams

    def __repr__(self) -> str:
        shards = f"{len(self.urls)} shard{'s' * (len(self.urls) != 1)} from {self.urls[0]}"
        return f"Resampled({len(self)} samples an epoch from {shards})"

    def read(
        self, position: int, epoch: int = 0, modalities: frozenset[str] | None = None, *, stride: int = 1
    ) -> tuple[Sample, list[Bad]]:
        """See ``Reading.read``. Positions of a stream are meant to be read in ascending order."""
        if not 0 <= position < len(self):
            raise IndexError(f"position {position} of {len(self)}")
        k, stream = divmod(epoch * len(self) + position, self.streams)
        place = self._walk(stream, k)
        while (drawn := self._open_draw(stream, place.draw)) is None:
            place = self._walk(stream, k)
        every = lcm(self.streams, stride) // self.streams  # of the samples of this stream, this process reads
        sample, bad = drawn.read(place.offset, place.draw, modalities, stride=every)
        sample["__index__"] = position
        gone, self._gone = self._gone, []
        return sample, gone + bad

    def state(self, position: int, epoch: int = 0) -> list[tuple[int, int]]:
        """Return the (draw, offset) at which each stream goes on, for ``resume``, after all positions before this one.

        Opens the index of each shard drawn since the last call.
        """
        at = epoch * len(self) + position
        places = [self._walk(s, -(-(at - s) // self.streams)) for s in range(self.streams)]
        return [(place.draw, place.offset) for place in places]

    def resume(self, position: int, epoch: int, state: Sequence[Sequence[int]]) -> None:
        """Go on from the ``state`` of this position. Raises ValueError for a state of other streams."""
        if len(state) != self.streams or any(len(pair) != 2 or min(pair) < 0 for pair in state):
            raise ValueError(
                f"a state has a (draw, offset) pair for each of {self.streams} streams; this one has {len(state)}"
            )
        at = epoch * len(self) + position
        self._anchor = [Spot(-(-(at - s) // self.streams), *map(int, pair)) for s, pair in enumerate(state)]
        self._at = list(self._anchor)

    @cached_property
    def modalities(self) -> dict[str, int]:
        """As ``Shards.modalities``, of the first shard alone: no other is opened for it."""
        return self._shards(0).modalities

    @cached_property
    def classes(self) -> dict[str, list[str]]:
        """As ``Shards.classes``: from the manifest, else of the first shard."""
        return self._shards(0).classes

    @property
    def lost(self) -> list[Lost]:
        """Empty: nothing is known of a shard before it is drawn."""
        return []

    def report(self) -> dict[str, int]:
        """Return counts of the bad by reason: in indexing the shards opened here, and in everything read so far."""
        total = sum((Counter(notes) for notes in self._notes.values()), Counter(self._counts))
        return dict(sorted(total.items()))

    def close(self) -> None:
        """Close the open files. Reading opens them again."""
        for _, shard in self._open.values():
            shard.close()

    def _walk(self, stream: int, k: int) -> Spot:
        """Return the spot of a stream's k-th sample, from the last spot on, or from the run's begin."""
        at = self._at[stream]
        if k < at.k:
            at = self._anchor[stream] if k >= self._anchor[stream].k else Spot(0, 0, 0)
        empty = 0
        while (left := self._length(stream, at.draw) - at.offset) <= k - at.k:
            empty = 0 if left > 0 else empty + 1
            if empty > 100 * len(self.urls):
                raise ValueError(f"{self.urls[0]} … hold no samples")
            at = Spot(at.k + max(0, left), at.draw + 1, 0)
        self._at[stream] = Spot(k, at.draw, at.offset + k - at.k)
        return self._at[stream]

    def _number(self, stream: int, draw: int) -> int:
        return derive("draw", self.seed, stream, draw) % len(self.urls)

    def _length(self, stream: int, draw: int) -> int:
        number = self._number(stream, draw)
        if number not in self._lengths:
            self._open_draw(stream, draw)
        return self._lengths[number]

    def _open_draw(self, stream: int, draw: int) -> Shards | None:
        """Open the shard of a draw, None where it is out of reach. A stream has one shard open at a time."""
        before, shards = self._open.get(stream, (-1, None))
        if shards is not None and before == draw:
            return shards
        if shards is not None:
            shards.close()
        number = self._number(stream, draw)
        try:
            shards = self._shards(number, derive("resampled", self.seed, stream))
        except OSError as error:
            if isinstance(self.urls[number], Path):
                raise
            log.warning("quarantined: %s; its draws are passed over (shard/unreachable)", error)
            self._gone.append(Bad("shard/unreachable", str(self.urls[number])))
            self._lengths[number] = 0
            return None
        self._open[stream] = draw, shards
        self._lengths[number], self._notes[number] = len(shards), shards.report()
        return shards

    def _shards(self, number: int, seed: int = 0) -> Shards:
        return Shards(
            [self.urls[number]],
            seed=seed,
            streams=1,
            block=self.block,
            max_bad=self.max_bad,
            members=self.members,
            allow_pipe=self.allow_pipe,
        )
