"""Hubness, and its repair by banks of queries: see ``evaluator``."""

from align.evaluation.hubness.evaluator import Hubness

__all__ = ["Hubness"]
