"""Robustness: scores of damaged, redrawn and missing rows beside the clean ones."""

from align.evaluation.robustness.evaluator import Robustness

__all__ = ["Robustness"]

FLOORS = (("corruptions", "measure"), ("ledger", "section"), ("cases",), ("evaluator",))
