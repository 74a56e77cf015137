"""Which negatives Symile contrasts at which step: from easy to hard, or the other way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import lightning as L

from align.lit.module import AlignModule, own
from align.losses.symile import Negatives
from align.objective import Objective

Schedule = dict[str, dict[int, Negatives]]
"""Term -> first step -> the kind of negatives from there on: ``{three: {0: shuffled, 500: partial}}``."""


def at(table: Mapping[int, Negatives], step: int) -> Negatives:
    """The kind in force at a step: a pure function, so a resumed run needs no state for it."""
    return table[max(first for first in table if first <= step)]


def check(schedule: Schedule, objective: Objective) -> None:
    """Raises ValueError for a term that is not there or takes no kinds, a table without step 0, or an unknown kind."""
    for name, table in schedule.items():
        if name not in objective.losses or not hasattr(objective.losses[name], "negatives"):
            able = [n for n, x in objective.losses.items() if hasattr(x, "negatives")]
            raise ValueError(f"negatives: {name!r} is no term with kinds of negatives; those are {able or 'none'}")
        if 0 not in table or min(table) < 0:
            raise ValueError(f"negatives: {name!r} has steps {sorted(table)}; the first must be 0")
        for kind in table.values():
            if kind not in ("all", "shuffled", "partial") and not (type(kind) is int and kind > 0):
                raise ValueError(f"negatives: {kind!r} of {name!r} is not 'all', 'shuffled', 'partial' or a number")


@final
class Scheduled(L.Callback):
    """Sets each scheduled term's ``negatives`` before a step; validation has the last kind, so that its losses can be
    compared."""

    def __init__(self, schedule: Schedule):
        self.schedule = schedule

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        module = own(pl_module)
        for name, table in self.schedule.items():
            _set(module, name, at(table, module.step))

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for name, table in self.schedule.items():
            _set(own(pl_module), name, table[max(table)])


def _set(module: AlignModule, term: str, kind: Negatives) -> None:
    loss: Any = module.objective.terms[term].loss
    loss.negatives = kind
