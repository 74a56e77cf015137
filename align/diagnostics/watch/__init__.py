"""Watchers of a run: each knows one sign that it goes wrong, and raises an alarm with advice."""

from align.diagnostics.watch.alarms import Alarms
from align.diagnostics.watch.glance import Glance, Term

__all__ = ["Alarms", "Glance", "Term"]
