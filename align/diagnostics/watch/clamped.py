"""Clamped temperature: a learned scale stays at its limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

from align.diagnostics.read import Alarm
from align.diagnostics.watch.glance import Glance

TIMES = 6  # glances in a row: 50 steps from the first to the last
SLACK = 1e-4  # share of the limit: the clamp is of the logarithm in float32


@final
class Clamped:
    """Watcher of learned scales."""

    def __init__(self) -> None:
        self.times: dict[str, int] = {}

    def look(self, glance: Glance) -> Iterator[Alarm]:
        scales = {term.name: term for term in glance.terms.values() if term.learned}
        for name, term in scales.items():
            times = self.times[name] = self.times.get(name, 0) + 1 if term.scale >= term.limit * (1 - SLACK) else 0
            if times >= TIMES:
                yield Alarm(
                    glance.step,
                    "clamped-temperature",
                    name,
                    f"the scale of {name} has been at its limit of {term.limit:.4g} for 50 steps",
                    "the training pairs are told apart too easily: take a larger data.batch or harder negatives, look "
                    "for samples that occur two times, or raise max_scale of the loss",
                )
