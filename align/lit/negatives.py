"""Schedule of the kinds of negatives of a loss, by step: from easy to hard, or the other way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast, final

import lightning as L

from align.lit.module import AlignModule
from align.losses import Loss
from align.objective import Objective

Schedule = dict[str, dict[int, int | str]]
"""Term -> first step -> the kind of negatives from there on: ``{three: {0: shuffled, 500: partial}}``. The loss of a
term lists its kinds as ``negative_kinds``."""


def at(table: Mapping[int, int | str], step: int) -> int | str:
    """Return the kind in force at a step. It follows from the step alone, so a resumed run needs no state for it."""
    return table[max(first for first in table if first <= step)]


def check(schedule: Schedule, objective: Objective) -> None:
    """Raise ValueError for a schedule that an objective cannot follow.

    A term is not there or has no kinds, a table lacks step 0, or a term's loss does not know a kind.
    """
    losses = {name: cast(Loss, loss) for name, loss in objective.losses.items()}
    for name, table in schedule.items():
        if name not in losses or not losses[name].negative_kinds:
            able = [n for n, loss in losses.items() if loss.negative_kinds]
            raise ValueError(f"negatives: {name!r} is no term with kinds of negatives; those are {able or 'none'}")
        if 0 not in table or min(table) < 0:
            raise ValueError(f"negatives: {name!r} has steps {sorted(table)}; the first must be 0")
        kinds = losses[name].negative_kinds
        for kind in table.values():
            number = type(kind) is int and kind > 0 and "K" in kinds
            if not number and (kind not in kinds or kind == "K"):
                known = [repr(k) if k != "K" else "a number above 0" for k in kinds]
                raise ValueError(f"negatives: {kind!r} of {name!r} is not {', '.join(known[:-1])} or {known[-1]}")


@final
class Scheduled(L.Callback):
    """Setter of each scheduled term's kind of negatives before a step.

    Validation has the last kind, so that its losses can be compared.
    """

    def __init__(self, schedule: Schedule, module: AlignModule):
        self.schedule, self.module = schedule, module

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        for name, table in self.schedule.items():
            self._set(name, at(table, self.module.step))

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for name, table in self.schedule.items():
            self._set(name, table[max(table)])

    def _set(self, term: str, kind: int | str) -> None:
        cast(Loss, self.module.objective.losses[term]).set_negatives(kind)
