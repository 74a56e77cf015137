"""Probe: see ``evaluator``."""

from align.evaluation.probe.evaluator import Probe

__all__ = ["Probe"]
