"""Training with Lightning: the only room that knows it."""

from align.lit.checkpoints import Checkpoints
from align.lit.data import AlignData
from align.lit.fit import fit
from align.lit.module import AlignModule
from align.lit.plan import Fitted

__all__ = ["AlignData", "AlignModule", "Checkpoints", "Fitted", "fit"]

FLOORS = (
    (
        "by_source",
        "centroids",
        "finite",
        "first",
        "guard",
        "precision",
        "recalls",
        "requeue",
        "sharding",
        "spaces",
        "sources",
        "stages",
        "standing",
    ),
    ("module", "opened", "parts", "source_keys"),
    ("data", "loaders", "loggers", "pace"),
    ("fitted_on", "sent", "whole"),
    (
        "banks",
        "changes",
        "checkpoints",
        "early_stopping",
        "ending",
        "environment",
        "gradients",
        "evaluating",
        "forgetting",
        "frozen",
        "heartbeat",
        "log",
        "negatives",
        "peers",
        "progress",
        "quarantine",
        "repeats",
        "resume",
        "run_lock",
        "signals",
        "trainer",
    ),
    ("skipped",),
    ("begin", "diagnosing", "evaluations", "forks", "trained", "watch", "watching"),
    ("plan",),
    ("diagnose",),
    ("stage_fit",),
    ("fit",),
)
"""Files of this room, the lowest first: measures and sources, the step and its data, loaders, callbacks, the plan, a
stage, and the run."""
