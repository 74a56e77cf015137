"""Resume of a run: its last checkpoint, the validation that a stop left due, the rest of its learning rate."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L

from align.checkpoint import drop_lost, load_training, read_state, write_index
from align.distributed import exchange
from align.lit.module import AlignModule
from align.lit.precision import restore_scale
from align.optim import Optim


class Earlier(NamedTuple):
    """The last good checkpoint of a run.

    folder: None where the run begins. state: its ``training/state.json``. known: the run's index, without the
    checkpoints that are gone or damaged. gone: a line for each of those.
    """

    folder: Path | None
    state: Mapping[str, Any]
    known: Mapping[str, Any] = {}
    gone: Sequence[str] = ()

    @property
    def step(self) -> int:
        return self.state["step"]

    def owes(self, kind: str, every: int, end: int) -> bool:
        """Return True where this step, a multiple of `every` or the end, has a measurement that a stop left out.

        kind: "validated" or "evaluated", the entry of the state that says that it was made. end: of the run, or of the
        stage.
        """
        at = self.step > 0 and (self.step % every == 0 or self.step >= end)
        return at and not self.state.get(kind, True)

    def plan_steps(self, steps: int, replan: bool) -> int:
        """Return the number of steps of the learning rate's schedule in a run that is to have ``steps``.

        A run that has come to the end of its schedule stays at the final rate, unless ``replan``. A run before that end
        has a schedule over all of its steps.
        """
        before = self._planned
        if before is None or (self.step < steps and (self.step < before or replan)):
            return steps
        return before

    def list_changes(self, run: Path, order: Mapping[str, Any], optim: Optim, steps: int) -> list[str]:
        """Return a line for each change since the checkpoint: of the order of samples, and of the learning rate."""
        if self.step > steps:
            return [self.describe_end(run, steps)]
        before = self.state.get("order", {})
        changed = [f"{k} was {before[k]}, is {now}" for k, now in order.items() if before.get(k, now) != now]
        lines = [f"{run} goes on in another order of samples: {'; '.join(changed)}"] if changed else []
        if self._planned is None or self.step >= steps:
            return lines
        planned = self.plan_steps(steps, optim.replan)
        was, rate = optim.at(self.step, self._planned), optim.at(self.step, planned)
        if planned != steps and self.state["steps"] != steps:
            lines.append(
                f"{run} goes on past the end of its schedule, at learning rate {rate:.3g}: the schedule was planned "
                f"for {planned} steps; --optim.replan true plans it anew for {steps}"
            )
        elif rate != was:
            lines.append(
                f"{run} goes on with a learning rate planned for {steps} steps, not for {self._planned}: "
                f"the next step has {rate:.3g}, not {was:.3g}"
            )
        return lines

    def forget(self, run: Path) -> None:
        """Write the index without the checkpoints that are lost, and print a line for each of those."""
        for line in self.gone:
            print(line, file=sys.stderr)
        if self.gone:
            write_index(run, self.known)

    def describe_end(self, run: Path, steps: int) -> str:
        """Return the line for a run that is to have so many steps and has them."""
        has = f"{self.step} of {steps} steps" if self.step == steps else f"{self.step} steps, {steps} were asked for"
        return f"{run} is trained: {has}; raise --trainer.max_steps (or max_epochs) to go on"

    @property
    def _planned(self) -> int | None:
        return self.state.get("planned", self.state.get("steps"))


def find(run: Path, *, fresh: bool) -> Earlier:
    """Return the last good checkpoint in a run folder. Without one, or with ``fresh``, the run is at step 0."""
    known, gone = ({}, []) if fresh else drop_lost(run)
    if not known:
        return Earlier(None, {"step": 0})
    folder = run / "checkpoints" / known["last"]
    return Earlier(folder, read_state(folder), known, gone)


class Resume(L.Callback):
    """Callback that loads a checkpoint, after the optimiser is built, and sets Lightning's counters of steps.

    until: the step at which this fit ends. quiet: it prints no line, as at the begin of a later stage.
    """

    def __init__(self, folder: Path | None, module: AlignModule, until: int, *, quiet: bool = False):
        self.folder, self.module, self.until, self.quiet = folder, module, until, quiet

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module = self.module
        self._agree()
        if self.folder is None:
            return
        state = load_training(self.folder, module.model, module.objective, trainer.optimizers[0])
        restore_scale(trainer, state)
        module.step = state["step"]
        loop = trainer.fit_loop.epoch_loop
        loop.automatic_optimization.optim_progress.optimizer.step.total.ready = module.step
        loop.automatic_optimization.optim_progress.optimizer.step.total.completed = module.step
        for count in ("ready", "started", "processed", "completed"):
            setattr(loop.batch_progress.total, count, module.step)
        if trainer.is_global_zero and not self.quiet:
            print(f"continuing at step {module.step}", file=sys.stderr, flush=True)

    def _agree(self) -> None:
        """Raise ValueError where the ranks have found other checkpoints, as on disks of their own."""
        found = [name.decode() for name in exchange((self.folder.name if self.folder else "none").encode())]
        if len(set(found)) > 1:
            raise ValueError(
                f"the ranks have found different checkpoints: {', '.join(found)}; the run folder must be one that all "
                "of them see"
            )

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.module.step >= self.until:  # Lightning validates once more before it stops
            trainer.should_stop = True


class MakeUp(L.Callback):
    """Callback that makes the validation that a stop left due, before the next step. The others are ready before it."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.validating = True
        trainer.fit_loop.epoch_loop.val_loop.run()
        trainer.training = True
