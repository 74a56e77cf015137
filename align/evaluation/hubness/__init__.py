"""Hubness: see ``evaluator``."""

from align.evaluation.hubness.evaluator import Hubness

__all__ = ["Hubness"]
