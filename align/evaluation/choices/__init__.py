"""Two-alternative choice and odd one out: sets of three rows, drawn from labels or judged by people."""

from align.evaluation.choices.evaluator import Choices

__all__ = ["Choices"]

FLOORS = (("sets",), ("draw", "judged"), ("evaluator",))
