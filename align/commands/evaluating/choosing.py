"""Options of ``--with choices``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from align.evaluation import Evaluator


@final
@dataclass(frozen=True)
class Choosing:
    """choices (--with choices)

    Args:
        judgements: a file of JSON lines with judged sets of three rows. Default: sets are drawn from the labels
        sets: drawn for each score
    """

    judgements: str | None = None
    sets: int = 1000

    def evaluator(self) -> Evaluator:
        """Return the evaluator with these options. Ends the command for a file that is not there."""
        from align.commands.errors import Refused
        from align.commands.evaluating.given import check_range
        from align.evaluation import Choices

        check_range("--sets", self.sets, 1)
        if self.judgements is not None and not Path(self.judgements).is_file():
            raise Refused(f"--judgements: there is no file {self.judgements}")
        return Choices(self.sets, self.judgements)
