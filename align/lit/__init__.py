"""Training with Lightning: the only room that knows it."""

from align.lit.checkpoints import Checkpoints
from align.lit.data import AlignData
from align.lit.fit import Fitted, fit
from align.lit.module import AlignModule

__all__ = ["AlignData", "AlignModule", "Checkpoints", "Fitted", "fit"]

FLOORS = (
    ("by_source", "evaluating", "fitted_on", "recalls", "sources", "stages", "standing", "whole"),
    ("module", "opened", "source_keys"),
    ("data", "loaders"),
    ("checkpoints", "log", "negatives", "progress", "quarantine", "repeats", "resume", "signals", "trainer"),
    ("fit",),
)
"""Files of this room, the lowest first: measures and sources, the step and its data, loaders, callbacks, a run."""
