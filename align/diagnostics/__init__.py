"""Diagnostics: measures of a space while it trains, and alarms with advice."""

from align.diagnostics.read import Alarm, Histogram, Measurement, read_alarms, read_environments, read_measures
from align.diagnostics.settings import Diagnose

__all__ = [
    "Alarm",
    "Diagnose",
    "Histogram",
    "Measurement",
    "read_alarms",
    "read_environments",
    "read_measures",
]
