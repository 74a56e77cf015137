"""Training with Lightning: the only room that knows it."""

from align.lit.checkpoints import Checkpoints
from align.lit.data import AlignData
from align.lit.fit import fit
from align.lit.module import AlignModule
from align.lit.stage_fit import Fitted

__all__ = ["AlignData", "AlignModule", "Checkpoints", "Fitted", "fit"]

FLOORS = (
    ("by_source", "centroids", "recalls", "sources", "stages", "standing"),
    ("module", "opened", "parts", "source_keys"),
    ("data", "loaders"),
    ("fitted_on", "whole"),
    (
        "banks",
        "checkpoints",
        "ending",
        "evaluating",
        "forgetting",
        "frozen",
        "log",
        "negatives",
        "progress",
        "quarantine",
        "repeats",
        "resume",
        "signals",
        "trainer",
    ),
    ("begin", "evaluations", "forks", "trained"),
    ("stage_fit",),
    ("fit",),
)
"""Files of this room, the lowest first: measures and sources, the step and its data, loaders, callbacks, a stage, and
the run."""
