"""The objective: named terms, each a loss between named modalities with a weight."""

from align.objective.term import Term
from align.objective.total import Objective

__all__ = ["Objective", "Term"]
