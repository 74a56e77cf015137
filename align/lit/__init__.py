"""Training with Lightning: the only room that knows it."""

from align.lit.checkpoints import Checkpoints
from align.lit.data import AlignData
from align.lit.fit import fit
from align.lit.module import AlignModule
from align.lit.plan import Fitted

__all__ = ["AlignData", "AlignModule", "Checkpoints", "Fitted", "fit"]

FLOORS = (
    ("by_source", "centroids", "recalls", "sources", "stages", "standing"),
    ("module", "opened", "parts", "source_keys"),
    ("data", "loaders", "loggers", "pace"),
    ("fitted_on", "whole"),
    (
        "banks",
        "checkpoints",
        "early_stopping",
        "ending",
        "environment",
        "gradients",
        "evaluating",
        "forgetting",
        "frozen",
        "guard",
        "log",
        "negatives",
        "progress",
        "quarantine",
        "repeats",
        "resume",
        "signals",
        "trainer",
    ),
    ("begin", "diagnosing", "evaluations", "forks", "trained", "watching"),
    ("plan",),
    ("diagnose",),
    ("stage_fit",),
    ("fit",),
)
"""Files of this room, the lowest first: measures and sources, the step and its data, loaders, callbacks, the plan, a
stage, and the run."""
