"""The evaluator ``hubness``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from align.evaluation.findings import Findings
from align.evaluation.space import Space


@final
@dataclass(frozen=True)
class Hubness:
    """Evaluator of ``hubness/…``."""

    name = "hubness"

    def run(self, space: Space) -> Findings:
        """Return the findings."""
        return Findings({})
