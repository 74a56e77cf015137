"""Several sources as one: who gives the sample at a position is a function of the step alone."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from functools import cached_property
from math import gcd
from typing import TYPE_CHECKING, Literal, final

from align.data.bad import Bad
from align.data.curriculum import Curriculum, Weights, schedule_of
from align.data.deal import by_size
from align.data.labels import merge_classes
from align.data.layout import layout
from align.data.names import FOREIGN
from align.data.overrides import Own, check
from align.data.reading import Tally, walk
from align.data.resampled import Resampled
from align.data.shards import Shards
from align.values import Sample

if TYPE_CHECKING:
    from align.preprocess import Preprocess


@final
class Mixture:
    """Named sources read as one, in a Loader of the same ``batch``.

    Step t takes from each source its share of the batch, to within one sample of all that was asked so far
    (``align.data.deal``), and the source's next positions in its own order. Both follow from t: nothing is replayed
    after a stop, and ranks, workers and a resumed run agree. A source that is exhausted begins its next epoch, whether
    or not the mixture's has ended; it ends with the last whole step that it can fill (what is left over is dropped), so
    that no sample stands twice in a batch.

    Streams: the samples of a step are laid out so that place i of the batch has those of a source's streams that are
    i modulo ``self.streams``, the greatest common divisor of the batch and the sources' streams. Where ranks × workers
    divide this, a worker owns whole streams of every source (for the length of the source's epoch). With one or two
    sources, and with batches of one source, that holds without exception. With more, some samples of a step find the
    places of their streams taken and are read elsewhere (of batches of 256, 4 in 100 for five equal sources; of 64,
    14), and a batch that has few divisors in common with 48 leaves few streams to own. The order is the same in any
    case; only blocks of remote shards are then fetched by more than one worker.

    Args:
        sources: name -> Shards, each with its own urls, members, streams and seed (or ``Resampled``).
        weights: source -> weight, or a curriculum: first step -> weights, ``{0: {"a": 1}, 1000: {"a": 1, "b": 4}}``. A
            source that is not named has weight 0. None: by size, see alpha.
        batch: positions in a step, over all ranks, as the Loader has it.
        alpha: without weights, p proportional to n^alpha of the n samples: 1 (the default) mixes as one large set, 0
            treats sources alike (temperature sampling with T = 1 / alpha).
        unit: what is dealt out. "sample": every batch mixes the sources. "batch": each batch is from one source, on all
            ranks; then a loss belongs to a source (with mixed batches it does not: negatives cross the sources).
        until: an epoch of the mixture ends when the "first" or the "last" of the sources has been gone through once.
            With a curriculum, every epoch has as many steps as the first.
        overrides: source -> modality -> the preprocess that decodes and augments its members. Its rows must have the
            shape and dtype of the model's own; collating and what runs on the device stay the model's.

    Raises ValueError where weights are wrong or a source has too few samples for its share of one step.
    """

    def __init__(
        self,
        sources: Mapping[str, Shards | Resampled],
        weights: Weights | Mapping[int, Weights] | None = None,
        *,
        batch: int,
        alpha: float | None = None,
        unit: Literal["sample", "batch"] = "sample",
        until: Literal["first", "last"] = "first",
        overrides: Mapping[str, Mapping[str, Preprocess]] | None = None,
    ):
        if not sources or "" in sources:
            raise ValueError("a mixture needs sources, each with a name")
        if batch < 1 or unit not in ("sample", "batch") or until not in ("first", "last"):
            raise ValueError(
                f"batch is at least 1, unit 'sample' or 'batch', until 'first' or 'last'; got {batch}, {unit}, {until}"
            )
        if weights and alpha is not None:
            raise ValueError(f"weights or alpha={alpha}, not both: alpha makes the weights from the sizes")
        for name in overrides or {}:
            if name not in sources:
                raise ValueError(f"overrides name {name!r}, which is no source; there are: {', '.join(sources)}")
        self.sources, self.batch, self.unit, self.until = dict(sources), batch, unit, until
        self.overrides = {name: dict(readers) for name, readers in (overrides or {}).items()}
        sizes = {name: len(source) for name, source in sources.items()}
        self.curriculum = Curriculum(
            sizes,
            schedule_of(weights or by_size(sizes, 1.0 if alpha is None else alpha)),
            batch=batch,
            whole=unit == "batch",
        )
        self.steps_per_epoch = self.curriculum.steps(until)
        self.streams = gcd(batch, *(source.streams for source in sources.values()))
        self.block = max(source.block for source in sources.values())
        self.max_bad = min(source.max_bad for source in sources.values())
        self.urls = [url for source in sources.values() for url in source.urls]
        self.members = FOREIGN  # of a sample without a source; each source has its own
        self._tally = Tally()
        self._plans: OrderedDict[int, list[tuple[str, int, int]]] = OrderedDict()

    def __len__(self) -> int:
        """Positions in an epoch: whole steps."""
        return self.steps_per_epoch * self.batch

    def __repr__(self) -> str:
        return f"Mixture({len(self)} positions an epoch from {', '.join(self.sources)})"

    def samples(self, epoch: int, *, rank: int = 0, world: int = 1, start: int = 0) -> Iterator[Sample]:
        """As ``Shards.samples``; each sample names its source as ``"__source__"``."""
        return walk(self, epoch, rank, world, start)

    def read(self, position: int, epoch: int = 0, modalities: frozenset[str] | None = None) -> tuple[Sample, list[Bad]]:
        """As ``Shards.read``."""
        if not 0 <= position < len(self):
            raise IndexError(f"position {position} of {len(self)}")
        step, place = divmod(position, self.batch)
        name, its_epoch, its_position = self.plan(epoch * self.steps_per_epoch + step)[place]
        sample, bad = self.sources[name].read(its_position, its_epoch, modalities)
        sample |= {"__index__": position, "__source__": name}
        return sample, bad

    def own(self, preprocess: Mapping[str, Preprocess]) -> dict[str, Own]:
        """Source -> how its samples are read: its member names, and ``preprocess`` with its overrides.

        Raises ValueError for an override of another modality, or one whose rows have another shape or dtype.
        """
        check(self.overrides, preprocess)
        return {
            name: Own(source.members, {**preprocess, **self.overrides.get(name, {})})
            for name, source in self.sources.items()
        }

    def plan(self, step: int) -> list[tuple[str, int, int]]:
        """For each place of a step's batch: the source, its epoch and the position in it."""
        if step not in self._plans:
            self._plans[step] = self._make_plan(step)
            while len(self._plans) > 2:
                self._plans.popitem(last=False)
        return self._plans[step]

    def given(self, step: int) -> dict[str, int]:
        """Source -> how many samples it has given before a step of the run, bad ones included."""
        return dict(zip(self.sources, self.curriculum.before(step).tolist(), strict=True))

    def places(self, step: int) -> dict[str, tuple[int, int]]:
        """Source -> (epoch of its own, position) of the sample that it gives next, at a step of the run."""
        return {name: self.curriculum.next(s, step) for s, name in enumerate(self.sources)}

    def source(self, step: int) -> str | None:
        """The source of a step where each batch is from one; None where batches are mixed."""
        return self.curriculum.names[self.curriculum.source(step)] if self.unit == "batch" else None

    @cached_property
    def modalities(self) -> dict[str, int]:
        """Modality -> how many samples of all sources have a row of it."""
        total = sum((Counter(source.modalities) for source in self.sources.values()), Counter[str]())
        return dict(sorted(total.items()))

    @cached_property
    def classes(self) -> dict[str, list[str]]:
        """Attribute -> class names, of all sources."""
        return merge_classes(source.classes for source in self.sources.values())

    @property
    def lost(self) -> int:
        """As ``Shards.lost``, of all sources."""
        return sum(source.lost for source in self.sources.values())

    def report(self) -> dict[str, int]:
        """What was bad, by reason, over all sources."""
        total = sum((Counter(source.report()) for source in self.sources.values()), Counter(self._tally.counts))
        return dict(sorted(total.items()))

    def count(self, reason: str, n: int = 1, where: str = "") -> None:
        """As ``Shards.count``."""
        self._tally.add(reason, n, where)

    def first(self, reason: str) -> str:
        """As ``Shards.first``."""
        return self._tally.where.get(reason, "")

    def close(self) -> None:
        """Close the open files of every source."""
        for source in self.sources.values():
            source.close()

    def _make_plan(self, step: int) -> list[tuple[str, int, int]]:
        before, after = self.curriculum.before(step), self.curriculum.before(step + 1)
        plan: list[tuple[str, int, int]] = [("", 0, 0)] * self.batch
        for s, places in enumerate(layout(before, after, self.streams)):
            epoch, first = self.curriculum.next(s, step)
            for i, place in enumerate(places.tolist()):
                plan[place] = (self.curriculum.names[s], epoch, first + i)
        return plan
