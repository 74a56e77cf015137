"""Training states of older schemas in the form of today's, and the refusal of newer ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import align
from align.checkpoint.sums import schema


def migrate(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the content of a checkpoint's ``training/state.json`` in today's schema.

    The files stay as they are: `read_optimizer` knows the tensors of schema 1. folder: the checkpoint, for the message.
    Raises ValueError for a schema that a newer align has written.
    """
    found = state.get("schema", 0)
    if found > schema:
        raise ValueError(
            f"{folder} has schema {found}; this align {align.__version__} reads up to {schema}: upgrade align"
        )
    for older in range(found, schema):
        state = STEPS.get(older, dict)(state)
    return state | {"schema": schema}


def _from_1(state: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 had one schedule, over all steps of the run."""
    return {"planned": state.get("steps")} | state if "steps" in state else dict(state)


STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}
"""Schema -> the function that makes a state of it one of the next schema.

Schema 2 has the state of 3, without sums beside it.
"""
