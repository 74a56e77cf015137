"""Guard of a run: steps with a non-finite loss or gradient are skipped, ranks that die are named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Guard:
    """What a run does about steps that fail.

    A step whose loss or gradient is not finite is skipped on all ranks alike: weights and optimiser stay as they are.

    Args:
        skips: the run stops after so many skipped steps in a row.
        seconds: a rank that is silent for so long counts as dead, and the others leave.
    """

    skips: int = 10
    seconds: float = 60.0
