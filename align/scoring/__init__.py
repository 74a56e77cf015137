"""Scoring: one rule for zero-shot classification, retrieval and search."""

from align.scoring.score import How, fits, score

__all__ = ["How", "fits", "score"]
