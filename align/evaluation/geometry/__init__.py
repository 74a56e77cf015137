"""Geometry: see ``evaluator``."""

from align.evaluation.geometry.evaluator import Geometry

__all__ = ["Geometry"]
