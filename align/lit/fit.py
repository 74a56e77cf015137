"""One run: from model, objective and data to a folder with checkpoints, metrics and the best model."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from align.checkpoint import read_heads
from align.diagnostics import Diagnose
from align.diagnostics.slice import SliceReader
from align.grad_cache import check_chunk
from align.lit.begin import print_lines, scale_optim, take_start
from align.lit.centroids import fill_centroids
from align.lit.changes import read_changes
from align.lit.checkpoints import Checkpoints
from align.lit.data import AlignData
from align.lit.early_stopping import EarlyStopping
from align.lit.ending import clear
from align.lit.evaluating import Measure, Validate, pick_evaluators
from align.lit.fitted_on import describe_refits, note_towers
from align.lit.forks import check_begin, copy_run, find_fork, read_source
from align.lit.guard import Guard
from align.lit.loggers import check_loggers, close_loggers, make_loggers
from align.lit.negatives import Schedule, check
from align.lit.opened import check_towers
from align.lit.plan import Fitted, Plan, owes
from align.lit.recalls import columns
from align.lit.requeue import requeue
from align.lit.resume import Earlier, find
from align.lit.run_lock import lock_fit
from align.lit.stage_fit import fit_stage
from align.lit.stages import Stages, check_stages, list_spans, weights_by_step
from align.lit.trained import check_parts
from align.lit.trainer import count_steps
from align.model import JointModel
from align.model.compute import Compute, computing
from align.model.domains import name_domains
from align.model.mixup import Mixup, check_mixup
from align.objective import Objective
from align.objective.encoders import check_encoders
from align.optim import Optim
from align.tuning import Tuning


@lock_fit
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
    mixup: Mixup | None = None,
    tuning: Tuning | None = None,
    stages: Stages | None = None,
    validate: Validate | None = None,
    start: str | None = None,
    fork: str | None = None,
    config: str | None = None,
    compute: Compute | None = None,
    guard: Guard | None = None,
    diagnose: Diagnose | None = None,
    early_stopping: EarlyStopping | None = None,
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
        mixup: rows that are mixed of two, see ``align.model.mixup``. None: none.
        tuning: parts that train. None: all.
        stages: name -> Stage, in order. Each is a fit of its own, from the checkpoint of the one before, in this
            process. The learning rate's schedule goes on over the whole run. None: one stage.
        validate: evaluators that run on ``data.val``: on the weights that the run begins with, every so many steps, and
            at the end of each stage.
        start: a model whose weights the run begins with. A run that is there already goes on as it is.
        config: text of ``RUN/config.yaml``, which is written after all checks.
        fork: a run, or a checkpoint of one, that this run goes on from in a new folder. See ``align.lit.forks``.
        compute: compiled towers, activation checkpointing, channels-last. Default: none of them.
        guard: what becomes of steps that fail. Default: `Guard()`.
        diagnose: measures and alarms while the run trains. Default: `Diagnose()`.
        early_stopping: an end before the last step. None: the run takes all of its steps.

    Raises ValueError or FileNotFoundError, before the first step, where data, model and objective do not fit, and
    TooManyBad over the budget, on all ranks in the same step.
    """
    run, optim, checkpoint, options = Path(run), optim or Optim(), checkpoint or Checkpoints(), dict(trainer or {})
    optim = scale_optim(optim, data.batch)
    (compute or Compute()).check(model)
    check_begin(fresh=fresh, start=None, fork=fork)  # a config may have a start, whose weights a fork does not read
    check(negatives or {}, objective)
    check_chunk(chunk, model.modalities)
    check_mixup(mixup, chunk, model.modalities)
    check_encoders(objective, model.towers)
    check_loggers(options.get("logger", True))
    sources = data.train if isinstance(data.train, dict) else ()
    check_stages(stages or {}, objective, sources, data.mix.weights, negatives or {})
    evaluators = pick_evaluators(validate)
    forked = None if fork is None else find_fork(fork, run)
    earlier = find(run, fresh=fresh) if forked is None else read_source(forked, model, objective)
    take_start(model, objective, start, run, earlier)
    heads = read_heads(model)  # of the start
    opened = data.open(model, seed, earlier.state, weights_by_step(stages or {}))
    note_towers(model, [opened.train, opened.val], earlier.folder)
    print_lines(describe_refits(heads, model))
    if objective.needs_labels:
        objective.name_classes(opened.train.classes)
    name_domains(model, opened.train.classes)
    if not earlier.step:
        fill_centroids(model, opened.train)
    measure = Measure(evaluators, opened, data.workers) if evaluators else None
    steps = count_steps(options, opened.steps_per_epoch)
    spans = list_spans(stages or {}, steps)
    known = [] if opened.val is None else columns(objective.infos(), model.modalities if stages else ())
    if opened.val is not None:
        known = [*known, *_list_scores(run if forked is None else forked.run, evaluators)]
        if measure is None or not checkpoint.monitor.startswith("val/"):
            checkpoint.check(known)
    if early_stopping is not None:
        by_validation = checkpoint.monitor in columns(objective.infos(), model.modalities)
        validates = opened.val is not None and options.get("limit_val_batches") != 0
        early_stopping.check(checkpoint.monitor, validates if by_validation else measure is not None)
    check_towers(opened.train, check_parts(spans, tuning, model, objective, optim, steps))
    if fresh:
        clear(run)
    run.mkdir(parents=True, exist_ok=True)
    if forked is not None:
        earlier = copy_run(forked, run)
    options["logger"] = make_loggers(options.get("logger", True), run, earlier.step)
    plan = Plan(
        model=model,
        objective=objective,
        opened=opened,
        run=run,
        optim=optim,
        options=options,
        checkpoint=checkpoint,
        negatives=negatives or {},
        tuning=tuning,
        chunk=chunk,
        mixup=mixup,
        spans=spans,
        seed=seed,
        steps=steps,
        planned=earlier.plan_steps(steps, optim.replan),
        workers=data.workers,
        keep=data.keep,
        validates=opened.val is not None and options.get("limit_val_batches") != 0,
        measure=measure,
        every=(validate or {}).get("every_steps") or options["val_check_interval"],
        known=known,
        first=earlier,
        config=config,
        changes=read_changes(forked.run if forked else run, config) if earlier.folder is not None else [],
        compute=compute or Compute(),
        guard=guard or Guard(),
        diagnose=diagnose or Diagnose(),
        slices=SliceReader(opened.train, opened.val, opened.preprocess, data.batch, (diagnose or Diagnose()).rows),
        early_stopping=early_stopping,
    )
    try:
        with computing(model, plan.compute):
            fitted = _fit_stages(plan, earlier)
    finally:
        close_loggers(options["logger"])
    if not fitted.rank:
        requeue(fitted.signal, fitted.step)
    return fitted


def _fit_stages(plan: Plan, earlier: Earlier) -> Fitted:
    """Train the stages that are left, each from the checkpoint of the one before."""
    if plan.in_stages and not plan.validates:
        print(f"{plan.run} has no validation, so no recall is measured after its stages", file=sys.stderr)
    for span in plan.spans:
        last = span is plan.spans[-1]
        if not last and earlier.step >= span.end and not (earlier.step == span.end and any(owes(plan, span, earlier))):
            continue
        fitted = fit_stage(plan, span, earlier)
        if last or fitted.signal or fitted.early:
            return fitted
        earlier = find(plan.run, fresh=False)
    raise RuntimeError("a run has a last stage")


def _list_scores(run: Path, evaluators: Any) -> list[str]:
    """Return the columns of validation in a run's metrics.csv, where evaluators have written some."""
    path = run / "metrics.csv"
    if not evaluators or not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as f:
        return [name for name in next(csv.reader(f), []) if name.startswith("val/")]
