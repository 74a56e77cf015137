"""Scoring: one rule for zero-shot classification, retrieval, search, validation and filters."""

from align.scoring.choose import How, choose, cosine_unit, fits, list_unread
from align.scoring.correction import Correction, correct
from align.scoring.direction import add_direction, weigh_direction
from align.scoring.score import score
from align.scoring.vote import vote

__all__ = [
    "Correction",
    "How",
    "add_direction",
    "choose",
    "correct",
    "cosine_unit",
    "fits",
    "list_unread",
    "score",
    "vote",
    "weigh_direction",
]
