"""Search over the keys of a config: runs beside one another, each with other values, proposed by Optuna."""

from align.sweep.space import Choice, Range, read_space
from align.sweep.study import Settings, Study, Tried, open_study

__all__ = ["Choice", "Range", "Settings", "Study", "Tried", "open_study", "read_space"]
