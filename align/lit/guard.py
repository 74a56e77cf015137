"""Guard of a run: steps with a non-finite loss or gradient are skipped, ranks that die are named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Guard:
    """Bounds of a run's patience with steps, ranks and data workers that fail.

    A step whose loss or gradient is not finite is skipped on all ranks alike: weights and optimiser stay as they are.

    Args:
        skips: the run stops after so many skipped steps in a row.
        seconds: a rank that is silent for so long counts as dead, and the others leave.
        restarts: data workers that end are started anew so many times for one step, then the run stops.
        data_seconds: data workers that bring nothing for so long count as ended. 0: they may take any time.

    Raises ValueError for a bound that no run could keep.
    """

    skips: int = 10
    seconds: float = 60.0
    restarts: int = 3
    data_seconds: float = 600.0

    def __post_init__(self) -> None:
        if self.skips < 1 or not self.seconds > 0 or self.restarts < 0 or not self.data_seconds >= 0:
            raise ValueError(
                f"guard.skips is at least 1, guard.seconds above 0, guard.restarts and guard.data_seconds at least 0; "
                f"got {self.skips}, {self.seconds:g}, {self.restarts} and {self.data_seconds:g}"
            )
