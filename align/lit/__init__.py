"""Training with Lightning: the only room that knows it."""

from align.lit.checkpoints import Checkpoints
from align.lit.data import AlignData
from align.lit.fit import Fitted, fit
from align.lit.module import AlignModule

__all__ = ["AlignData", "AlignModule", "Checkpoints", "Fitted", "fit"]

FLOORS = (
    ("by_source", "evaluating", "recalls", "sources", "stages", "standing"),
    ("module", "opened", "source_keys"),
    ("data", "loaders"),
    ("checkpoints", "frozen", "log", "negatives", "progress", "quarantine", "repeats", "resume", "signals", "trainer"),
    ("begin",),
    ("fit",),
)
"""Files of this room, the lowest first: measures and sources, the step and its data, loaders, callbacks, a run."""
