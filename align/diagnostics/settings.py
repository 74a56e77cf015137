"""Settings of a run's diagnostics: the config's ``diagnose``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Diagnose:
    """Measures of the space while it trains, on a fixed slice of the validation shards, and alarms.

    Args:
        every_steps: how often the slice is measured. 0: never. Default: at each validation.
        rows: samples of the slice.
        alarms: print a line with advice where a measure says that the run goes wrong.
    """

    every_steps: int | None = None
    rows: int = 256
    alarms: bool = True
