"""Collapse: the rows of a modality get one embedding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

from align.diagnostics.read import Alarm
from align.diagnostics.watch.glance import Glance

LEAST = 8  # rows that say something of a spread
LOW = 0.01  # mean of 1 - cosine below which rows are all but one, if they lay further apart before
NOTHING = 1e-5  # the same where they never lay apart: fresh deep towers begin at 0.001 or so
TIMES = 3  # glances in a row


@final
class Collapse:
    """Watcher of the spread of a batch's rows: the mean of 1 - cosine over their pairs.

    A fresh tower may begin with rows that lie close together and spread them. So a small spread alone is no alarm: it
    is also less than half of the widest one so far. A spread of next to nothing always is.
    """

    def __init__(self) -> None:
        self.widest: dict[str, float] = {}
        self.times: dict[str, int] = {}

    def look(self, glance: Glance) -> Iterator[Alarm]:
        for m, spread in glance.spread.items():
            if glance.rows.get(m, 0) < LEAST:
                continue
            widest = self.widest[m] = max(spread, self.widest.get(m, 0.0))
            low = spread < NOTHING or (spread < LOW and spread < widest / 2)
            times = self.times[m] = self.times.get(m, 0) + 1 if low else 0
            if times >= TIMES:
                yield Alarm(
                    glance.step,
                    "collapse",
                    m,
                    f"{m} has collapsed: its {glance.rows[m]} rows have all but one embedding (mean cosine "
                    f"{1 - spread:.6f})",
                    "lower optim.lr or warm up for longer; look whether the objective has negatives, and whether the "
                    f"{m} of different samples differ",
                )
