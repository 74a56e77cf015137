"""Optimisers, parameter groups and schedules of the learning rate. One of the user's own is an import path."""

from align.optim.averaged import Average, Ema
from align.optim.groups import Group, named_parameters
from align.optim.joined import Joined
from align.optim.modes import TwoModes, evaluating, find_two_modes
from align.optim.optim import AdamW, Optim
from align.optim.schedules import Constant, Cosine, Linear, Schedule

__all__ = [
    "AdamW",
    "Average",
    "Constant",
    "Cosine",
    "Ema",
    "Group",
    "Joined",
    "Linear",
    "Optim",
    "Schedule",
    "TwoModes",
    "evaluating",
    "find_two_modes",
    "named_parameters",
]
