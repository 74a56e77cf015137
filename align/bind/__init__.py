"""Heads in closed form, fitted on cached features in seconds.

``open_pairs`` reads columns beside their anchor, ``bind_columns`` fits and measures, ``make_model`` puts the heads on
the towers. ``average_models`` joins models that were trained on subsets. ``join_spaces`` writes pseudo-pairs of several
models' unpaired sets, on which heads are trained.
"""

from align.bind.average import average_models
from align.bind.binding import Bound, Plan, bind_columns
from align.bind.columns import Opened, open_pairs
from align.bind.fitting import Fitted, fit_heads
from align.bind.joining import join_rows, join_spaces
from align.bind.model import make_model
from align.bind.moments import sum_moments
from align.bind.sections import protocol_of, scores_of, sections_of

__all__ = [
    "Bound",
    "Fitted",
    "Opened",
    "Plan",
    "average_models",
    "bind_columns",
    "fit_heads",
    "join_rows",
    "join_spaces",
    "make_model",
    "open_pairs",
    "protocol_of",
    "scores_of",
    "sections_of",
    "sum_moments",
]
