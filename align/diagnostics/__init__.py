"""Diagnostics: measures of a space while it trains, and alarms with advice."""

from align.diagnostics.settings import Diagnose

__all__ = ["Diagnose"]
