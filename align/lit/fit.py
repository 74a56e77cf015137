"""One run: from model, objective and data to a folder with checkpoints, metrics and the best model."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch

from align.checkpoint import find_checkpoint, list_files, read_index, read_parts
from align.data.loader import check_batch
from align.data.mixing.sources import Sources
from align.files import atomic_folder, atomic_write, read_json
from align.lit.begin import take_start
from align.lit.checkpoints import Checkpoints, Saver
from align.lit.data import AlignData
from align.lit.evaluating import Validate
from align.lit.frozen import Frozen
from align.lit.loaders import Loaders
from align.lit.log import Log
from align.lit.module import AlignModule
from align.lit.negatives import Schedule, Scheduled, check
from align.lit.progress import Progress
from align.lit.quarantine import Quarantine
from align.lit.recalls import columns
from align.lit.repeats import Repeats
from align.lit.resume import Earlier, MakeUp, Resume, find
from align.lit.signals import Interrupted, Stop
from align.lit.stages import Stages
from align.lit.trainer import count_steps, make_trainer, silence
from align.model import JointModel
from align.model.origin import describe_parts
from align.objective import Objective
from align.optim import Optim
from align.seeds import derive
from align.tuning import Tuning, apply


class Fitted(NamedTuple):
    """End of a run.

    step: its last. signal: the number that stopped it, or 0. bad: bad members by reason. rank: of this process.
    """

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
    optim: Optim | None = None,
    trainer: Mapping[str, Any] | None = None,
    checkpoint: Checkpoints | None = None,
    seed: int = 0,
    negatives: Schedule | None = None,
    fresh: bool = False,
    chunk: int | dict[str, int] | None = None,
    tuning: Tuning | None = None,
    stages: Stages | None = None,
    validate: Validate | None = None,
    start: str | None = None,
    fork: str | None = None,
    config: str | None = None,
) -> Fitted:
    """Train into the folder `run`, or continue the run that is there.

    A run that was stopped first makes the validation that was due then. A trained run takes no step, and gets the files
    of its end where they are missing.

    Args:
        run: gets ``checkpoints/``, ``metrics.csv``, the bad members (``bad.jsonl`` by name, ``bad.json`` and
            ``bad-shards.json`` in numbers) and, at the end, ``model/``, the best checkpoint.
        optim: optimiser and learning rate. Default: `Optim()`.
        trainer: arguments of Lightning's Trainer. ``max_epochs`` or ``max_steps`` is the length (default: 10 epochs).
            ``val_check_interval`` is in epochs where it is a float, in steps where it is an int (default: 1.0).
        checkpoint: times of saving. Default: `Checkpoints()`.
        seed: order, augmentation, dropout and draws follow from it.
        negatives: kinds of negatives by step, for terms whose loss has them. See ``align.lit.negatives``.
        fresh: start over, even where `run` has a checkpoint.
        chunk: rows that a tower reads at a time, for all modalities or each (see ``align.grad_cache``). None: all.
        tuning: parts that train. None: all.
        stages: name -> Stage, in order. None: one.
        validate: evaluators that run while the model trains.
        start: a model whose weights the run begins with. A run that is there already goes on as it is.
        config: text of RUN/config.yaml, which is written after all checks.
        fork: a run whose last checkpoint the run begins with, its step, optimiser and order included.

    Raises ValueError or FileNotFoundError, before the first step, where data, model and objective do not fit, and
    TooManyBad over the budget, on all ranks in the same step.
    """
    run, optim, checkpoint, options = Path(run), optim or Optim(), checkpoint or Checkpoints(), dict(trainer or {})
    check(negatives or {}, objective)
    earlier = find(run, fresh=fresh)
    take_start(model, objective, start, run, earlier)
    applied = apply(model, tuning or Tuning(), objective=objective, seed=seed)
    opened = data.open(model, seed, earlier.state)
    if opened.val is not None:
        checkpoint.check(columns(objective.infos()))
    steps = count_steps(options, opened.steps_per_epoch)
    optim.check(model, objective, steps)
    if fresh:
        _clear(run)
    run.mkdir(parents=True, exist_ok=True)
    if config is not None:
        with atomic_write(run / "config.yaml") as f:
            f.write(config.encode())
    validates = opened.val is not None and options.get("limit_val_batches") != 0
    owes = validates and earlier.owes_validation(options["val_check_interval"], steps)
    planned = earlier.plan_steps(steps, optim.replan)
    module = AlignModule(model, objective, optim, seed=seed, steps=steps, planned=planned, sources=opened.standing.due)
    loaders = Loaders(opened, workers=data.workers, start_step=earlier.step, steps=steps, keep=data.keep)
    log, progress = Log(run, module, loaders), Progress(module, loaders)
    quarantine = Quarantine(run, module, opened.ledger)
    saver = Saver(checkpoint, run, module, opened, log.flush, earlier.state)
    stop = Stop(saver.save)
    callbacks = [
        Resume(earlier.folder, module),
        Frozen(applied),
        Repeats(model, objective, mixed=isinstance(opened.train, Sources)),
        Scheduled(negatives or {}, module),
        quarantine,
        log,
        saver,
        progress,
        stop,
    ]
    callbacks += [MakeUp()] if owes else []
    if earlier.step >= steps:
        options["limit_train_batches"] = 0
    lightning = make_trainer(options, run, steps=steps, validates=validates, callbacks=callbacks)
    if earlier.step >= steps and not owes:
        return _end(run, earlier, steps, quarantine, lightning)
    check_batch(opened.batch, lightning.world_size)  # now: the other ranks are not started yet
    if lightning.is_global_zero:
        earlier.forget(run)
        for line in earlier.list_changes(run, opened.order, optim, steps):
            print(line, file=sys.stderr)
        if not earlier.step:
            for line in describe_parts(read_parts(model)):
                print(line, file=sys.stderr)
    torch.manual_seed(derive(seed, "start"))
    with silence():
        try:
            lightning.fit(module, datamodule=loaders)
        except Interrupted:
            pass
        finally:
            stop.restore()
            progress.close()
            loaders.close()
    applied.check()
    applied.remove()
    quarantine.count(lightning)
    if lightning.is_global_zero and not stop.received:
        _finish(run)
    return Fitted(module.step, stop.received, opened.ledger.reasons, lightning.global_rank)


def _end(run: Path, earlier: Earlier, steps: int, quarantine: Quarantine, trainer: L.Trainer) -> Fitted:
    """Make the model and the counts of a trained run, where a stop or a hand has left it without them."""
    if trainer.is_global_zero:
        if "ledger" in earlier.state.get("bad", {}):
            quarantine.count(trainer)
        if not _has_model(run, earlier.known):
            earlier.forget(run)
            _finish(run)
        print(earlier.describe_end(run, steps), file=sys.stderr)
    return Fitted(earlier.step, 0, {}, trainer.global_rank)


def _has_model(run: Path, known: Mapping[str, Any]) -> bool:
    """Return True where RUN/model is there, and is the best checkpoint, or that one's only copy."""
    model, best = run / "model", run / "checkpoints" / (known.get("best") or known["last"])
    if not (model / "model.json").is_file() or not all((model / name).is_file() for name in list_files(model)):
        return False
    only = read_index(run).get("best") != known.get("best")
    return only or read_json(model / "model.json") == read_json(best / "model.json")


def _finish(run: Path) -> None:
    """Write RUN/model: the best checkpoint (the last, where nothing was monitored) without its training state."""
    best = find_checkpoint(run, "best")
    with atomic_folder(run / "model") as work:
        for name in list_files(best):
            shutil.copyfile(best / name, work / name)


def _clear(run: Path) -> None:
    for name in ("checkpoints", "tensorboard", "model"):
        shutil.rmtree(run / name, ignore_errors=True)
    for name in ("metrics.csv", "bad.jsonl", "bad.json", "bad-shards.json"):
        (run / name).unlink(missing_ok=True)
