"""Geometry: the evaluator, and the reader of a given matrix."""

from align.evaluation.geometry.evaluator import Geometry
from align.evaluation.geometry.matrix import GivenMatrix, read_matrix

__all__ = ["Geometry", "GivenMatrix", "read_matrix"]
