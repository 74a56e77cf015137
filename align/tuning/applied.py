"""A stand-in until the branch `tuning` is merged: freezing alone."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from align.optim.groups import named_parameters
from align.tuning.tuning import Tuning


class Applied:
    """A stand-in."""

    def __init__(self, named: Any):
        self.named, self.before = named, {n: p.requires_grad for n, p in named.items()}

    def check(self) -> None:
        """Do nothing."""

    def remember(self) -> None:
        """Do nothing."""

    def remove(self) -> None:
        """Restore."""
        for n, p in self.named.items():
            p.requires_grad_(self.before[n])


def apply(model: Any, tuning: Tuning, *, objective: Any = None, seed: int = 0) -> Applied:
    """Freeze."""
    applied = Applied(named_parameters(model, objective))
    for pattern in tuning.freeze:
        found = [
            p
            for n, p in applied.named.items()
            if fnmatchcase(n, pattern) or fnmatchcase(n, f"{pattern}.*") or n.startswith(f"model.towers.{pattern}.")
        ]
        if not found:
            raise ValueError(f"tuning.freeze: {pattern!r} names no parameter")
        for p in found:
            p.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        applied.remove()
        raise ValueError("tuning freezes every parameter of the model")
    return applied
