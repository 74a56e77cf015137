"""Optimisers, parameter groups and schedules of the learning rate. One of the user's own is an import path."""

from align.optim.groups import Group, named_parameters
from align.optim.joined import Joined, TwoModes
from align.optim.modes import evaluating, two_modes
from align.optim.optim import AdamW, Optim
from align.optim.schedules import Constant, Cosine, Linear, Schedule

__all__ = [
    "AdamW",
    "Constant",
    "Cosine",
    "Group",
    "Joined",
    "Linear",
    "Optim",
    "Schedule",
    "TwoModes",
    "evaluating",
    "named_parameters",
    "two_modes",
]
