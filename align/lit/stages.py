"""Stages of a run: from a step on, other parts train, under other terms, on other sources."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

from align.tuning import Lora


@final
@dataclass(frozen=True)
class Stage:
    """One stage of a run. Only what it states differs from the run's own keys.

    Args:
        until: the step at which it ends, None for the last stage: the end of the run.
        freeze: patterns of parameters that do not train in it, beside ``tuning.freeze``.
        lora: pattern of layers -> their adapters, beside ``tuning.lora``.
        terms: term -> its weight in this stage. A term that is not named is off. None: all, at their weights.
        sources: source -> its weight in this stage. A source that is not named is off. None: as ``data`` has them.
        lr: factor of ``optim.lr``.
    """

    until: int | None = None
    freeze: list[str] = field(default_factory=list)
    lora: dict[str, Lora] = field(default_factory=dict)
    terms: dict[str, float] | None = None
    sources: dict[str, float] | None = None
    lr: float = 1.0


Stages = dict[str, Stage]
"""A config's ``stages``: name -> Stage, in order."""
