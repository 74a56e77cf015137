"""A mixture of several sources. The source of the sample at a position is a function of the step alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from math import gcd
from typing import TYPE_CHECKING, Literal, final

from align.data.mixing.curriculum import Curriculum, Weights, schedule_of
from align.data.mixing.deal import by_size
from align.data.mixing.layout import layout
from align.data.mixing.sources import Part, Sources, Turn

if TYPE_CHECKING:
    from align.preprocess import Preprocess


@final
class Mixture(Sources):
    """Named sources read as one, in a Loader of the same ``batch``.

    Step t takes from each source its share of the batch, to within one sample of all that was asked so far
    (``align.data.mixing.deal``), and the source's next positions in its own order. Both follow from t, so nothing is
    replayed after a stop, and ranks, workers and a resumed run agree. A source that is exhausted begins its next epoch,
    whether or not the mixture's has ended. Its epoch ends with the last whole step that it can fill (the samples left
    over are dropped), so that no sample stands twice in a batch.

    Streams: the samples of a step are laid out so that place i of the batch has those of a source's streams that are
    i modulo ``self.streams``, the greatest common divisor of the batch and the sources' streams. Where ranks × workers
    divide this, a worker owns whole streams of every source (for the length of the source's epoch). With one or two
    sources, and with batches of one source, that holds without exception. With more, some samples of a step find the
    places of their streams taken and are read elsewhere, each by itself (by 16 readers, of batches of 256, 4 in 100 for
    five equal sources; of 64, 14), and a batch that has few divisors in common with 48 leaves few streams to own. The
    order is the same in any case; only a few samples of remote shards are then fetched twice.

    Args:
        sources, overrides: see ``Sources``.
        weights: source -> weight, or a curriculum: first step -> weights, ``{0: {"a": 1}, 1000: {"a": 1, "b": 4}}``. A
            source that is not named has weight 0. None makes them by size, see alpha.
        batch: positions in a step, over all ranks, as the Loader has it.
        alpha: without weights, p proportional to n^alpha of the n samples: 1 (the default) mixes as one large set, 0
            treats sources alike (temperature sampling with T = 1 / alpha).
        unit: "sample": every batch mixes the sources. "batch": each batch is from one source, on all ranks, so that a
            loss belongs to a source (in mixed batches it does not, as negatives cross the sources).
        until: an epoch of the mixture ends when the "first" or the "last" of the sources has ended its first epoch.
            With a curriculum, every epoch has as many steps as the first.

    Batches name the source of each sample (``Batch.source``), "" where the position is empty.

    Raises ValueError where weights are wrong or a source has too few samples for its share of one step.
    """

    def __init__(
        self,
        sources: Mapping[str, Part],
        weights: Weights | Mapping[int, Weights] | None = None,
        *,
        batch: int,
        alpha: float | None = None,
        unit: Literal["sample", "batch"] = "sample",
        until: Literal["first", "last"] = "first",
        overrides: Mapping[str, Mapping[str, Preprocess]] | None = None,
    ):
        super().__init__(sources, overrides, batch=batch)
        if batch < 1 or unit not in ("sample", "batch") or until not in ("first", "last"):
            raise ValueError(
                f"batch is at least 1, unit 'sample' or 'batch', until 'first' or 'last'; got {batch}, {unit}, {until}"
            )
        if weights and alpha is not None:
            raise ValueError(f"weights or alpha={alpha}, not both: alpha makes the weights from the sizes")
        sizes = {name: len(source) for name, source in sources.items()}
        self.curriculum = Curriculum(
            sizes,
            schedule_of(weights or by_size(sizes, 1.0 if alpha is None else alpha)),
            batch=batch,
            whole=unit == "batch",
        )
        self.steps_per_epoch = self.curriculum.steps(until)
        self.streams = gcd(batch, self.streams)
        self._plans: OrderedDict[int, list[Turn]] = OrderedDict()

    def __len__(self) -> int:
        """Positions in an epoch: whole steps."""
        return self.steps_per_epoch * self.batch

    def turn(self, position: int, epoch: int) -> Turn:
        """See ``Sources.turn``."""
        step, place = divmod(position, self.batch)
        return self.plan(epoch * self.steps_per_epoch + step)[place]

    def plan(self, step: int) -> list[Turn]:
        """Return the source and position of the sample at each place of a step's batch."""
        if step not in self._plans:
            self._plans[step] = self._make_plan(step)
            while len(self._plans) > 2:
                self._plans.popitem(last=False)
        return self._plans[step]

    def count_given(self, step: int) -> dict[str, int]:
        """Return source -> the number of samples that it has given before a step of the run, bad ones included."""
        return dict(zip(self.sources, self.curriculum.before(step).tolist(), strict=True))

    def places(self, step: int) -> dict[str, tuple[int, int]]:
        """Return source -> (its epoch, position) of the sample that it gives next, at a step of the run."""
        return {name: self.curriculum.next(s, step) for s, name in enumerate(self.sources)}

    def _make_plan(self, step: int) -> list[Turn]:
        before, after = self.curriculum.before(step), self.curriculum.before(step + 1)
        plan = [Turn("", 0, 0)] * self.batch
        for s, (places, off) in enumerate(layout(before, after, self.streams)):
            epoch, first = self.curriculum.next(s, step)
            for i, place in enumerate(places.tolist()):
                plan[place] = Turn(self.curriculum.names[s], epoch, first + i, int(off[i]))
        return plan
