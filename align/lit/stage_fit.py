"""One stage of a run: a fit of its own, from the last checkpoint to the stage's end."""

from __future__ import annotations

import gc
import sys
from functools import partial
from typing import Any

import torch

from align.checkpoint import read_parts
from align.data.arguments import check_batch
from align.data.loader import StopAsked
from align.data.mixing.sources import Sources
from align.distributed import exchange
from align.lit.banks import Banks
from align.lit.changes import NoteConfig, describe
from align.lit.checkpoints import Saver
from align.lit.diagnose import list_diagnostics
from align.lit.early_stopping import EndEarly, Patience
from align.lit.ending import has_model, write_model_folder
from align.lit.environment import Environment
from align.lit.evaluations import Evaluations
from align.lit.forgetting import Forgetting
from align.lit.frozen import Frozen
from align.lit.loaders import Loaders
from align.lit.log import Log
from align.lit.module import AlignModule
from align.lit.negatives import Scheduled
from align.lit.plan import Fitted, Plan, owes
from align.lit.progress import Progress
from align.lit.quarantine import Quarantine
from align.lit.repeats import Repeats
from align.lit.resume import Earlier, MakeUp, Resume
from align.lit.run_lock import check_lock
from align.lit.sent import Sent
from align.lit.sharding import SharedFolder, check_sharding
from align.lit.signals import Interrupted, Stop
from align.lit.skipped import Skipped
from align.lit.stages import Span
from align.lit.trained import apply_stage, weights_in
from align.lit.trainer import make_trainer, silence
from align.lit.watch import Watch, explaining
from align.model.origin import describe_parts
from align.seeds import derive


def fit_stage(plan: Plan, span: Span, earlier: Earlier) -> Fitted:
    """Train from a checkpoint to the end of a stage. If it has ended, make the measurements that are missing."""
    model, objective, opened, run = plan.model, plan.objective, plan.opened, plan.run
    validation, evaluation = owes(plan, span, earlier)
    applied = apply_stage(span, plan.tuning, model, objective, plan.seed)
    module = AlignModule(
        model,
        objective,
        plan.optim,
        seed=plan.seed,
        steps=plan.steps,
        planned=plan.planned,
        sources=opened.standing.due,
        terms=weights_in(span),
        factor=span.stage.lr,
        pairs=plan.in_stages,
        chunk=plan.chunk,
        mixup=plan.mixup,
    )
    banks = Banks(module, opened, workers=plan.workers)
    loaders = Loaders(
        opened,
        workers=plan.workers,
        start_step=earlier.step,
        steps=span.end,
        keep=plan.keep,
        numbers=bool(banks.found),
        guard=plan.guard,
    )
    known = objective.columns if plan.in_stages else ()
    sent = Sent(run)
    log = Log(run, module, loaders, sent, known=known, patient=plan.checkpoint.on_error == "warn")
    progress = Progress(module, loaders)
    quarantine = Quarantine(run, module, opened.ledger)
    stage: dict[str, Any] = {"stage": span.name} if plan.in_stages else {}
    patience = Patience(plan.early_stopping, plan.checkpoint.monitor, plan.checkpoint.mode, earlier.state)
    stage |= patience.entry
    guards = {"check": lambda: check_lock(run), "judged": patience.count}
    saver = Saver(plan.checkpoint, run, module, opened, log.flush, earlier.state, stage, **guards)
    stop = Stop(saver.save)
    loaders.stops = partial(getattr, stop, "asked")
    new_data = earlier is plan.first or span.stage.sources is not None
    watch = Watch(plan.guard, module)
    callbacks = [
        watch,
        SharedFolder(run),
        Resume(earlier.folder, module, span.end, quiet=earlier is not plan.first),
        *([_note_config(plan)] if earlier is plan.first else []),
        *([] if applied is None else [Frozen(applied)]),
        banks,
        *([Repeats(model, objective, mixed=isinstance(opened.train, Sources))] if new_data else []),
        Scheduled(plan.negatives, module),
        quarantine,
        *([Environment(run, module)] if earlier is plan.first else []),
        sent,
        log,
        Skipped(plan.guard, run, module, log.flush, earlier.state, stage),
        *([Forgetting(run, module, span)] if plan.in_stages else []),
    ]
    callbacks += list_diagnostics(plan, span.end, module, loaders, log, progress)
    if plan.measure is not None:
        given = {"every": plan.every, "end": span.end, "due": evaluation}
        callbacks.append(Evaluations(plan.measure, module, log, saver, progress, stop, **given))
    callbacks += [saver, progress, stop, *([MakeUp()] if validation else []), EndEarly(patience)]
    options = dict(plan.options)
    if earlier.step >= span.end or patience.ended:
        options["limit_train_batches"] = 0
    trainer = make_trainer(options, steps=span.end, validates=plan.validates, callbacks=callbacks)
    build = partial(plan.optim.build, model, objective)
    check_sharding(trainer, chunk=plan.chunk, stages=plan.in_stages, tuning=plan.tuning, build=build)
    if (earlier.step >= plan.steps or patience.ended) and not (validation or evaluation):
        _end(plan, quarantine, trainer, patience)
        return Fitted(earlier.step, 0, {}, trainer.global_rank, patience.ended)
    if earlier is plan.first:
        check_batch(opened.batch, trainer.world_size)  # now: the other ranks are not started yet
        if trainer.is_global_zero:
            _print_begin(plan)
    torch.manual_seed(derive(plan.seed, "start"))
    with silence(), explaining(module):
        try:
            trainer.fit(module, datamodule=loaders)
        except (Interrupted, StopAsked):
            pass
        finally:
            stop.restore()
            progress.close()
            loaders.close()
    quarantine.count(trainer)
    if applied is not None:
        applied.check()
        applied.remove()
    if span is not plan.spans[-1] and not patience.ended:
        exchange(b"")  # no rank reads the stage's checkpoint before it is there
    elif trainer.is_global_zero and not stop.received:
        write_model_folder(run)
        if patience.ended:
            print(f"{run} stops early at step {module.step}: {patience.describe(run)}", file=sys.stderr)
    watch.close()
    fitted = Fitted(module.step, stop.received, opened.ledger.reasons, trainer.global_rank, patience.ended)
    del trainer, module, loaders, callbacks, saver, log, progress, stop, quarantine
    gc.collect()  # DDP of this stage hangs on the gradients until it is gone
    return fitted


def _print_begin(plan: Plan) -> None:
    earlier, run = plan.first, plan.run
    earlier.forget(run)
    said = {change.key for change in plan.changes}
    order = {key: value for key, value in plan.opened.order.items() if key not in said}
    for line in earlier.list_changes(run, order, plan.optim, plan.steps):
        print(line, file=sys.stderr)
    if not earlier.step:
        for line in describe_parts(read_parts(plan.model)):
            print(line, file=sys.stderr)


def _note_config(plan: Plan) -> NoteConfig:
    """Return the callback that prints the changes of the config and keeps the new one."""
    rate = plan.optim.at(plan.first.step, plan.planned)
    return NoteConfig(plan.run, plan.config, [describe(change, plan.steps, rate) for change in plan.changes])


def _end(plan: Plan, quarantine: Quarantine, trainer: Any, patience: Patience) -> None:
    """Write the model and the counts of a trained run, if a stop left them out or somebody removed them."""
    earlier, run = plan.first, plan.run
    if not trainer.is_global_zero:
        return
    if patience.ended:
        print(patience.describe_end(run, earlier.step), file=sys.stderr)
    if "ledger" in earlier.state.get("bad", {}):
        quarantine.count(trainer)
    if not has_model(run, earlier.known):
        earlier.forget(run)
        write_model_folder(run)
    print(earlier.describe_end(run, plan.steps), file=sys.stderr)
