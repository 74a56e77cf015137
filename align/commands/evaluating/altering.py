"""Options of ``--with robustness``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from align.evaluation import Evaluator


@final
@dataclass(frozen=True)
class Altering:
    """robustness (--with robustness)

    Args:
        corruptions: the damages to measure, separated by commas. Pictures and videos: blur, noise, jpeg, crop. Sounds:
            noise, clipping, speed, band. Points: jitter, dropout, rotation, up_axis. Texts: typos. Also sampling (other
            points are drawn, by three seeds) and dropped (a modality of a composed query is missing). Default: all
        strengths: of the damages, from 1 to 5, separated by commas. Each takes one pass over the damaged modality
        measure: zeroshot, retrieval, or both, separated by a comma
    """

    corruptions: str = ""
    strengths: str = "1,2,3,4,5"
    measure: str = "zeroshot,retrieval"

    def evaluator(self) -> Evaluator:
        """Return the evaluator with these options. Raises ValueError for a strength that is no whole number."""
        from align.commands.named import split
        from align.evaluation import Robustness

        try:
            strengths = [int(one) for one in split(self.strengths)]
        except ValueError:
            raise ValueError(f"--strengths {self.strengths}: strengths are whole numbers, as in 1,3,5") from None
        measure: Any = split(self.measure)
        return Robustness(split(self.corruptions), strengths, measure)
