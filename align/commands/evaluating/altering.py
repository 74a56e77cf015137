"""Options of ``--with robustness``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from align.evaluation import Evaluator


@final
@dataclass(frozen=True)
class Altering:
    """robustness (--with robustness)"""

    def evaluator(self) -> Evaluator:
        """Return the evaluator with these options."""
        from align.evaluation import Robustness

        return Robustness()
