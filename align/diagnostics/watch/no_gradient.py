"""No gradient: a tower that is to train stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

from align.diagnostics.read import Alarm
from align.diagnostics.watch.glance import Glance

TIMES = 3  # glances in a row
NOTHING = 1e-12  # share of the largest tower's norm


@final
class NoGradient:
    """Watcher of the gradient norm of each tower that has parameters to train, in batches with rows of it."""

    def __init__(self) -> None:
        self.times: dict[str, int] = {}

    def look(self, glance: Glance) -> Iterator[Alarm]:
        largest = max(glance.gradients.values(), default=0.0)
        for m, norm in glance.gradients.items():
            if not glance.rows.get(m, 0):
                continue
            times = self.times[m] = self.times.get(m, 0) + 1 if norm <= NOTHING * largest else 0
            if times >= TIMES:
                yield Alarm(
                    glance.step,
                    "no-gradient",
                    m,
                    f"the tower of {m} gets no gradient (norm {norm:.1e}), though its parameters are to train and "
                    f"batches have rows of {m}",
                    f"put {m} into a term of the objective, freeze it (tuning.freeze), or look for a detach or a dead "
                    "activation in its encoder",
                )
