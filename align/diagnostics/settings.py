"""Settings of a run's diagnostics: the config's ``diagnose``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

TRAINED = 80
"""Samples that a run trains between two measurements, for each sample of the slice, where ``every_steps`` is None.

A measurement embeds the slice without gradients, for about a third of a training step's work, and reads its cosines.
So it costs less than 1 % of the training between (0.5 % on the quickstart, ``tests/benchmarks/diagnostics.py``).
"""


@final
@dataclass(frozen=True)
class Diagnose:
    """Measures of the space while it trains, on a fixed slice of the validation shards, and alarms.

    Without validation shards the slice is of the training shards, and the measurement says so.

    Args:
        every_steps: how often the slice is measured. 0: never. None: at each validation, but no oftener than at a cost
            of about 1 % of the training between (see ``choose_steps``).
        rows: samples of the slice, at even distances through the shards.
        alarms: print a line with advice where a sign says that the run goes wrong.

    Raises ValueError for a negative number of steps, and for less than 2 rows.
    """

    every_steps: int | None = None
    rows: int = 256
    alarms: bool = True

    def __post_init__(self) -> None:
        if self.every_steps is not None and self.every_steps < 0:
            raise ValueError(f"diagnose.every_steps is at least 0; got {self.every_steps}")
        if self.rows < 2:
            raise ValueError(f"diagnose.rows is at least 2; got {self.rows}")

    def choose_steps(self, validation: int, batch: int, samples: int) -> int:
        """Return the number of steps between two measurements, 0 for none.

        validation: steps between two validations. batch: samples in a step. samples: in the slice.
        """
        if self.every_steps is not None:
            return self.every_steps
        least = math.ceil(TRAINED * samples / batch)
        return validation * math.ceil(least / validation)
