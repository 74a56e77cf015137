"""Options of ``--with composed``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from align.evaluation import Evaluator


@final
@dataclass(frozen=True)
class Composing:
    """composed retrieval (--with composed)

    Args:
        queries: a JSON-lines file of queries: reference (a key), text, targets (keys), and where there are such, subset
            (keys) and before (a caption of the reference)
        asks: the modality of the references
        answers: the modality of the candidates
        direction: the factor of the direction from the text before to the text
        balance: 0 adds the direction to the reference, 1 to the text before, and between to both
    """

    queries: str | None = None
    asks: str = "image"
    answers: str = "image"
    direction: float = 1.0
    balance: float = 0.5

    def evaluator(self) -> Evaluator:
        """Return the evaluator with these options."""
        from align.commands.errors import Refused
        from align.evaluation import Composed, read_composed

        if self.queries is None:
            raise Refused("--with composed asks queries of a file; name it: --queries FILE.jsonl", code=2)
        try:
            queries = read_composed(self.queries)
        except (ValueError, OSError) as error:
            raise Refused(f"--queries: {error}") from None
        try:
            return Composed(queries, self.asks, self.answers, scale=self.direction, balance=self.balance)
        except ValueError as error:
            raise Refused(f"--direction, --balance: {error}", code=2) from None
