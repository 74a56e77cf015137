"""Options of ``--with retrieval``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from align.evaluation import Evaluator


@final
@dataclass(frozen=True)
class Ranking:
    """retrieval (--with retrieval)

    Args:
        intra: each modality asks for itself too (image_to_image/…), where a row and its copies are no candidates
        ndcg: the k of nDCG@k
    """

    intra: bool = False
    ndcg: int = 10

    def evaluator(self) -> Evaluator:
        """Return the evaluator with these options."""
        from align.evaluation import Retrieval

        return Retrieval(intra=self.intra, ndcg=self.ndcg)
