"""Schedules of the learning rate: pure functions (step, steps) -> factor of the highest rate."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

Schedule = Callable[[int, int], float]
"""(step, steps) -> factor, at least 0. A run that gets more steps than were planned calls it with step >= steps."""


@dataclass(frozen=True)
class WarmUp(ABC):
    """A linear warm-up, and a curve of the subclass from there to the end.

    warmup: steps of the warm-up, below 1 a fraction of all steps.
    """

    warmup: float = 0.05

    def __call__(self, step: int, steps: int, peak: float = 1.0) -> float:
        """Return peak times the factor, multiplied in the order that all runs have had: the last bit depends on it."""
        warm = self.warmup * steps if self.warmup < 1 else self.warmup
        if step < warm:
            return peak * (step + 1) / (warm + 1)
        done = min(1.0, (step - warm) / max(1.0, steps - 1 - warm))
        return peak * self.fall(done)

    @abstractmethod
    def fall(self, done: float) -> float:
        """Return the factor where this share of the steps after the warm-up is done: from 1.0 at 0 on."""


@final
@dataclass(frozen=True)
class Cosine(WarmUp):
    """Half a cosine after the warm-up (SGDR, Loshchilov and Hutter 2017, without restarts).

    final: the factor at the last step.
    """

    final: float = 0.01

    def fall(self, done: float) -> float:
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * done))


@final
@dataclass(frozen=True)
class Linear(WarmUp):
    """A straight line after the warm-up.

    final: the factor at the last step.
    """

    final: float = 0.0

    def fall(self, done: float) -> float:
        return 1 - (1 - self.final) * done


@final
@dataclass(frozen=True)
class Constant(WarmUp):
    """The highest rate after the warm-up, for optimisers that need no schedule. By default without warm-up."""

    warmup: float = 0.0

    def fall(self, done: float) -> float:
        return 1.0
