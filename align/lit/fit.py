"""One run: model, objective and data in; a run folder with checkpoints, metrics and the best model out."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch

from align.checkpoint import choose, index, load_training
from align.data.loader import check_batch
from align.files import atomic_folder, read_json
from align.lit.checkpoints import Checkpoints
from align.lit.data import AlignData
from align.lit.log import Log
from align.lit.module import AlignModule, own
from align.lit.negatives import Schedule, Scheduled, check
from align.lit.progress import Progress
from align.lit.quarantine import Quarantine
from align.lit.recalls import columns
from align.lit.repeats import Repeats
from align.lit.signals import Interrupted, Stop
from align.lit.trainer import make_trainer, quiet, steps_of
from align.model import JointModel
from align.objective import Objective
from align.optim import AdamW
from align.seeds import derive


class Fitted(NamedTuple):
    """step: where the run stands; signal: the number that stopped it, or 0; bad: bad members by reason; rank: whose."""

    step: int
    signal: int
    bad: dict[str, int]
    rank: int = 0


def fit(
    model: JointModel,
    objective: Objective,
    data: AlignData,
    run: str | Path,
    *,
    optim: AdamW | None = None,
    trainer: Mapping[str, Any] | None = None,
    checkpoint: Checkpoints | None = None,
    seed: int = 0,
    negatives: Schedule | None = None,
    fresh: bool = False,
) -> Fitted:
    """Train into the folder `run`, or continue the run that is there.

    Args:
        run: gets ``checkpoints/``, ``metrics.csv``, what was bad (``bad.jsonl`` by name, ``bad.json`` and
            ``bad-shards.json`` in numbers) and, at the end, ``model/``, the best checkpoint.
        optim: how to train; default `AdamW()`.
        trainer: arguments of Lightning's Trainer. ``max_epochs`` or ``max_steps`` says how long (default: 10 epochs);
            ``val_check_interval`` is in epochs where it is a float, in steps where it is an int (default: 1.0).
        checkpoint: when to save; default `Checkpoints()`.
        seed: order, augmentation, dropout and draws follow from it.
        negatives: kinds of negatives by step, for terms whose loss has them; see ``align.lit.negatives``.
        fresh: start over, even where `run` has a checkpoint.

    Raises ValueError or FileNotFoundError, before a step is taken, where data, model and objective do not fit;
    TooManyBad over the budget, on all ranks in the same step.
    """
    run, optim, checkpoint, options = Path(run), optim or AdamW(), checkpoint or Checkpoints(), dict(trainer or {})
    check(negatives or {}, objective)
    data.open(model, seed)
    if data.val_shards is not None:
        checkpoint.check(columns(objective.infos()))
    steps = steps_of(options, data.steps_per_epoch)
    resumed = None if fresh or not index(run) else choose(run, "last")
    state: dict[str, Any] = read_json(resumed / "training" / "state.json") if resumed else {"step": 0, "data": {}}
    start = state["step"]
    if fresh:
        _clear(run)
    run.mkdir(parents=True, exist_ok=True)
    if start >= steps:
        print(f"{run} is trained: {start} of {steps} steps; raise --trainer.max_steps to go on", file=sys.stderr)
        return Fitted(start, 0, {})
    data.start_step, data.steps = start, steps
    data.standing.resume(start, state.get("data", {}))
    if "ledger" in state.get("bad", {}):
        data.go_on(state["bad"])
    module = AlignModule(model, objective, optim, seed=seed, steps=steps, sources=data.standing.due)
    log, progress, quarantine = Log(run), Progress(), Quarantine(run, data.ledger)
    checkpoint.run, checkpoint.metrics = run, log
    stop = Stop(checkpoint)
    callbacks = [_Start(resumed), Repeats(), Scheduled(negatives or {}), quarantine, log, checkpoint, progress, stop]
    validates = data.val_shards is not None
    lightning = make_trainer(options, run, steps=steps, validates=validates, callbacks=callbacks)
    check_batch(data.batch, lightning.world_size)  # now: the other ranks are not started yet
    if lightning.is_global_zero:
        _say_another_order(run, state.get("order", {}), data.order())
    torch.manual_seed(derive(seed, "start"))
    with quiet():
        try:
            lightning.fit(module, datamodule=data)
        except Interrupted:
            pass
        finally:
            stop.restore()
            progress.close()
            data.close()
    quarantine.count(lightning)
    if lightning.is_global_zero and not stop.received:
        _finish(run)
    return Fitted(module.step, stop.received, data.ledger.reasons, lightning.global_rank)


class _Start(L.Callback):
    """Puts a checkpoint in place, once the optimiser exists, and tells Lightning where the run stands."""

    def __init__(self, folder: Path | None):
        self.folder = folder

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module = own(pl_module)
        if self.folder is None:
            return
        state = load_training(self.folder, module.model, module.objective, trainer.optimizers[0])
        module.step = state["step"]
        loop = trainer.fit_loop.epoch_loop
        loop.automatic_optimization.optim_progress.optimizer.step.total.ready = module.step
        loop.automatic_optimization.optim_progress.optimizer.step.total.completed = module.step
        for count in ("ready", "started", "processed", "completed"):
            setattr(loop.batch_progress.total, count, module.step)
        if trainer.is_global_zero:
            print(f"continuing at step {module.step}", file=sys.stderr, flush=True)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module = own(pl_module)
        if module.step >= module.steps:  # Lightning validates once more before it stops
            trainer.should_stop = True


def _say_another_order(run: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = [f"{name} was {before[name]}, is {now[name]}" for name in now if before.get(name, now[name]) != now[name]]
    if changed:
        print(f"{run} goes on in another order of samples: {'; '.join(changed)}", file=sys.stderr)


def _finish(run: Path) -> None:
    """RUN/model: the best checkpoint (the last, where nothing was monitored) without its training state."""
    best = choose(run, "best")
    with atomic_folder(run / "model") as work:
        for file in ("model.safetensors", "config.yaml", "model.json"):
            shutil.copyfile(best / file, work / file)


def _clear(run: Path) -> None:
    for name in ("checkpoints", "tensorboard", "model"):
        shutil.rmtree(run / name, ignore_errors=True)
    for name in ("metrics.csv", "bad.jsonl", "bad.json", "bad-shards.json"):
        (run / name).unlink(missing_ok=True)
