"""Robustness: see ``evaluator``."""

from align.evaluation.robustness.evaluator import Robustness

__all__ = ["Robustness"]
