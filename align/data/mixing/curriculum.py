"""Counts of the samples that each source has given before any step, and the epochs of each source.

The weights may change over the steps (a curriculum).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, final

import numpy as np

from align.data.mixing.deal import Deal, parts

Weights = Mapping[str, float]
FOREVER = 1 << 40  # steps: no run is longer


@final
class Curriculum:
    """Counts of the sources as a function of the step.

    Args:
        sizes: source -> the number of its samples.
        schedule: first step -> weights from there on. A source that is not named has weight 0. The first is step 0.
        batch: samples in a step.
        whole: each step draws one source for all of its samples. Otherwise each sample is a draw.

    A source's epoch ends with the last whole step that it can fill. The samples left over are dropped (another order
    brings them back), so that no sample stands twice in a batch.

    Raises ValueError for a source that cannot fill one step.
    """

    def __init__(self, sizes: Mapping[str, int], schedule: Mapping[int, Weights], *, batch: int, whole: bool):
        self.names, self.sizes, self.batch, self.whole = list(sizes), list(sizes.values()), batch, whole
        if 0 not in schedule or min(schedule) < 0:
            raise ValueError(f"weights by step begin at step 0; got the steps {sorted(schedule)}")
        self.first = sorted(schedule)
        self.deals = [Deal(parts(self._row(schedule[step]))) for step in self.first]
        self._before = [np.zeros(len(sizes), np.int64)]  # at the first step of each part of the schedule
        for deal, (begin, end) in zip(self.deals[:-1], pairwise(self.first), strict=True):
            self._before.append(self._before[-1] + self._count_given(deal, end - begin))
        for deal in self.deals:
            most = deal.largest(1) * batch if whole else deal.largest(batch)
            for name, size, need in zip(self.names, self.sizes, most.tolist(), strict=True):
                if need > size:
                    raise ValueError(
                        f"a step takes up to {need} samples of source {name!r}, which has {size}: lower the batch or "
                        + ("mix inside the batches (unit: sample)" if whole else "its weight")
                    )
        self._starts: list[list[int]] = [[0] for _ in self.names]  # of each source, the first step of its epochs

    def before(self, step: int) -> np.ndarray:
        """Return (sources,) int64: the samples that each source has given in the steps before this one."""
        part = bisect_right(self.first, step) - 1
        return self._before[part] + self._count_given(self.deals[part], step - self.first[part])

    def epoch(self, source: int, step: int) -> tuple[int, int]:
        """Return the epoch of a source at a step, and the step at which this epoch began.

        The first call costs a few microseconds for each epoch that the source has had by then.
        """
        starts = self._starts[source]
        while starts[-1] <= step:
            starts.append(self._end(source, starts[-1]))
        number = bisect_right(starts, step) - 1
        return number, starts[number]

    def next(self, source: int, step: int) -> tuple[int, int]:
        """Return (epoch, position) of the first sample that a source gives at a step, or would give."""
        epoch, start = self.epoch(source, step)
        return epoch, self.count(source, step) - self.count(source, start)

    def steps(self, until: str) -> int:
        """Return the steps until the ``"first"`` or ``"last"`` source has ended an epoch. Endless ones do not count."""
        ends = [end for end in (self._end(s, 0) for s in range(len(self.names))) if end < FOREVER]
        return min(ends) if until == "first" else max(ends)

    def count(self, source: int, step: int) -> int:
        """Return the samples that one source has given in the steps before this one."""
        part = bisect_right(self.first, step) - 1
        draws = step - self.first[part]
        given = self.deals[part].count(source, draws if self.whole else draws * self.batch)
        return int(self._before[part][source]) + given * (self.batch if self.whole else 1)

    def _count_given(self, deal: Deal, steps: int) -> np.ndarray:
        return deal.before(steps) * self.batch if self.whole else deal.before(steps * self.batch)

    def _end(self, source: int, start: int) -> int:
        """Return the largest step before which an epoch begun at ``start`` fits into the source, or FOREVER."""
        most = self.count(source, start) + self.sizes[source]
        deal = self.deals[bisect_right(self.first, start) - 1]
        samples = self.sizes[source] * deal.period // self.batch
        guess = start + samples // max(1, deal.parts[source]) - 2  # right, but for rounding and later weights
        low = guess if guess > start and self.count(source, guess) <= most else start
        width = 1
        while self.count(source, low + width) <= most:
            low, width = low + width, 2 * width
            if low > FOREVER:
                return FOREVER
        high = low + width
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.count(source, middle) <= most else (low, middle)
        return low

    def _row(self, weights: Weights) -> Sequence[float]:
        for name in weights:
            if name not in self.names:
                close = get_close_matches(name, self.names, n=1, cutoff=0.5)
                hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(self.names)}"
                raise ValueError(f"weights name {name!r}, which is no source; {hint}")
        return [float(weights.get(name, 0)) for name in self.names]


def schedule_of(weights: Any) -> dict[int, Weights]:
    """Return weights as a schedule: plain weights are one row from step 0. Raises ValueError for a mixture of both."""
    rows = {k: v for k, v in weights.items() if isinstance(v, Mapping)}
    if rows and len(rows) != len(weights):
        raise ValueError("weights are {source: weight}, or {first step: {source: weight}}, not both at once")
    if rows and not all(isinstance(step, int) for step in rows):
        raise ValueError(f"a curriculum is {{first step: {{source: weight}}}}; its steps are {list(rows)}")
    return rows or {0: weights}
