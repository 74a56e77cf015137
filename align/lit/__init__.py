"""Training with Lightning: the only room that knows it."""

from align.lit.checkpoints import Checkpoints
from align.lit.data import AlignData
from align.lit.fit import Fitted, fit
from align.lit.module import AlignModule

__all__ = ["AlignData", "AlignModule", "Checkpoints", "Fitted", "fit"]
