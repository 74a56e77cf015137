"""Options of ``align evaluate --trec``: files for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from align.evaluation import Evaluator


@final
@dataclass(frozen=True)
class Listing:
    """files for other programs

    Args:
        trec: a folder for TREC's files: DIRECTION.run with the best candidates of each query, DIRECTION.qrels with its
            hits. align trec and trec_eval score them
        trec_depth: candidates of each query in a run
    """

    trec: str | None = None
    trec_depth: int = 1000

    def evaluators(self) -> list[Evaluator]:
        """Return the evaluator that writes the files, or none. Ends the command for options that cannot be."""
        from align.commands.errors import Refused
        from align.evaluation.trec import Trec

        if self.trec is None:
            if self.trec_depth != 1000:
                raise Refused("--trec-depth is the length of lists that --trec DIR writes, which is not given", 2)
            return []
        try:
            return [Trec(self.trec, self.trec_depth)]
        except ValueError as error:
            raise Refused(f"--trec: {error}", 2) from None
