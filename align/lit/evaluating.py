"""Evaluators that run while a model trains: a config's ``validate``."""

from __future__ import annotations

from typing import TypedDict

Validate = TypedDict("Validate", {"with": list[str], "every_steps": int}, total=False)
"""``{with: [zeroshot, retrieval], every_steps: 500}``. with: evaluators, by name or import path. every_steps: how often
they run. Default: at each validation."""
