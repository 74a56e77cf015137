"""Early stopping: a run ends where its monitored value no longer gets better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class EarlyStopping:
    """End of a run before its last step.

    The value is the one that ``checkpoint.monitor`` names, in its ``mode``.

    Args:
        patience: measurements without a better value after which the run ends.
        min_delta: a change of at most this much is no improvement.
    """

    patience: int
    min_delta: float = 0.0
