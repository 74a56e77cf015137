"""Corruptions by medium: one file a medium. The medium of a modality's preprocess picks them, never its name."""

from align.evaluation.robustness.corruptions.choice import Redrawn, corruptions_of, is_cloud, known_corruptions
from align.evaluation.robustness.corruptions.corruption import STRENGTHS, Corrupted, Corruption

__all__ = ["STRENGTHS", "Corrupted", "Corruption", "Redrawn", "corruptions_of", "is_cloud", "known_corruptions"]

FLOORS = (("corruption",), ("cloud", "picture", "sound", "words"), ("choice",))
