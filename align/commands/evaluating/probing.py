"""Options of ``--with probe``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from align.evaluation import Evaluator


@final
@dataclass(frozen=True)
class Probing:
    """probe (--with probe)"""

    def evaluator(self) -> Evaluator:
        """Return the evaluator with these options."""
        from align.evaluation import Probe

        return Probe()
