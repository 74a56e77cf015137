"""Plan of a run's stages: the settings that they share, the measurements that are due, and the end of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, final

from align.diagnostics import Diagnose
from align.diagnostics.slice import SliceReader
from align.lit.changes import Change
from align.lit.checkpoints import Checkpoints
from align.lit.early_stopping import EarlyStopping
from align.lit.evaluating import Measure
from align.lit.guard import Guard
from align.lit.negatives import Schedule
from align.lit.opened import Opened
from align.lit.resume import Earlier
from align.lit.stages import Span
from align.model import JointModel
from align.model.compute import Compute
from align.model.mixup import Mixup
from align.objective import Objective
from align.optim import Optim
from align.tuning import Tuning


@final
@dataclass(frozen=True)
class Plan:
    """Settings that all stages of a run share. steps: of the run. planned: of the learning rate's schedule.

    config: text of RUN/config.yaml. changes: of it since the last start.

    measure: the measurement of ``validate``, made every `every` steps. None: no evaluator runs. first: the checkpoint
    that this process goes on from.
    """

    model: JointModel
    objective: Objective
    opened: Opened
    run: Path
    optim: Optim
    options: Mapping[str, Any]
    checkpoint: Checkpoints
    negatives: Schedule
    tuning: Tuning | None
    chunk: int | dict[str, int] | None
    mixup: Mixup | None
    spans: Sequence[Span]
    seed: int
    steps: int
    planned: int
    workers: int
    keep: int
    validates: bool
    measure: Measure | None
    every: int
    known: Sequence[str]
    first: Earlier
    config: str | None
    changes: Sequence[Change]
    compute: Compute
    guard: Guard
    diagnose: Diagnose
    slices: SliceReader
    early_stopping: EarlyStopping | None

    @property
    def in_stages(self) -> bool:
        return bool(self.spans[0].name)


class Fitted(NamedTuple):
    """End of a run, or of a stage.

    step: its last. signal: the number that stopped it, or 0. bad: bad members by reason. rank: of this process. early:
    it ended by ``early_stopping``.
    """

    step: int
    signal: int
    bad: dict[str, int]
    rank: int = 0
    early: bool = False


def owes(plan: Plan, span: Span, earlier: Earlier) -> tuple[bool, bool]:
    """Return two bools: a validation, and an evaluation, is due before the first step of a stage's fit."""
    begins = not earlier.step
    validation = plan.validates and (
        (begins and plan.in_stages) or earlier.owes("validated", plan.options["val_check_interval"], span.end)
    )
    unknown = plan.checkpoint.monitor not in plan.known  # the evaluators have not said their names yet
    evaluation = plan.measure is not None and (
        begins or earlier.owes("evaluated", plan.every, span.end) or (unknown and earlier is plan.first)
    )
    return validation, evaluation
