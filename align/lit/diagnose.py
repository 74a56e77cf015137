"""Callbacks of a stage's diagnostics, by the config's ``diagnose``."""

from __future__ import annotations

import lightning as L

from align.lit.diagnosing import Diagnosing
from align.lit.gradients import Gradients
from align.lit.loaders import Loaders
from align.lit.log import Log
from align.lit.module import AlignModule
from align.lit.plan import Plan
from align.lit.progress import Progress
from align.lit.watching import Watching, is_due


def list_diagnostics(
    plan: Plan, end: int, module: AlignModule, loaders: Loaders, log: Log, progress: Progress
) -> list[L.Callback]:
    """Return the callbacks that measure the slice and that raise alarms, in their order.

    end: the last step of the stage.
    """
    asked = plan.diagnose
    every = asked.choose_steps(plan.options["val_check_interval"], plan.opened.batch, plan.slices.size)
    every = every if plan.slices.size else 0
    gradients = Gradients(
        module,
        lambda step: (asked.alarms and is_due(step)) or (every > 0 and (step % every == 0 or step >= end)),
    )
    found: list[L.Callback] = [gradients] if every or asked.alarms else []
    if every:
        found.append(Diagnosing(plan.run, module, log, plan.slices, gradients, every=every, end=end))
    if asked.alarms:
        found.append(Watching(plan.run, module, loaders, progress, gradients))
    return found
