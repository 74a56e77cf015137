"""Options of ``--with zeroshot``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from align.evaluation import Evaluator


@final
@dataclass(frozen=True)
class Classing:
    """zeroshot (--with zeroshot)

    Args:
        specificity: measure the sensitivity at this specificity too, each class against the rest: such as 0.9
    """

    specificity: float | None = None

    def evaluator(self) -> Evaluator:
        """Return the evaluator with these options."""
        from align.commands.errors import Refused
        from align.evaluation import ZeroShot

        try:
            return ZeroShot(specificity=self.specificity)
        except ValueError as error:
            raise Refused(f"--specificity: {error}", code=2) from None
