"""Checkpoints of a run: the model folder, and beside its weights all that a run needs to resume.

RUN/checkpoints/step-00000100/training/  objective.safetensors, optimizer.safetensors, optimizer.json, state.json,
                                         adapters.safetensors where there are any, sums.json (see sums.py)

The model has the weights that are good for evaluation. Where others train, as under a schedule-free optimiser, those
are in parameters.safetensors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from align.checkpoint.adapters import read_adapters, write_adapters
from align.checkpoint.migrate import migrate
from align.checkpoint.optimizer import read_optimizer, write_optimizer
from align.checkpoint.room import count_bytes, making_room
from align.checkpoint.run import point
from align.checkpoint.sharded import put_sharded, read_states, write_sharded
from align.checkpoint.sums import refuse_damage, replace_json, schema, write_sums
from align.checkpoint.together import together
from align.checkpoint.write import write_model
from align.distributed import rank
from align.encoders.weights import read_tensors, write_tensors
from align.files import atomic_folder, read_json, write_json
from align.model.inside import is_sharded, model_inside, put, unwrap, weights
from align.objective import Objective
from align.optim import evaluating, named_parameters


def save_training(
    run: Path,
    model: nn.Module,
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    *,
    keep: int = 2,
    better: bool | None = None,
) -> Path:
    """Write RUN/checkpoints/step-N, where N is ``state["step"]``, then point the index at it.

    After an error, and after a kill at any time, the checkpoints that were there are as they were. An OSError names the
    folder and the bytes that the checkpoint needs.

    Args:
        model: a JointModel, or a wrapper around one. All ranks call it where FSDP2 has sharded the weights.
        objective: an Objective, or a wrapper around one.
        better: true where this is the best so far, None where nothing is monitored.
        keep: number of the newest that stay, beside the best.
    """
    folder = run / "checkpoints" / f"step-{state['step']:08d}"
    if is_sharded(model):
        with making_room(folder):
            write_sharded(folder, model, objective, optimizer, {"schema": schema, **state})
            with together():
                if rank() == 0:
                    point(run, folder, state, keep, better)
        return folder
    with making_room(folder, count_bytes(model, objective, optimizer)), atomic_folder(folder) as work:
        training, named = work / "training", named_parameters(model, objective)
        training.mkdir()
        with evaluating(optimizer) as trained:
            inside = model_inside(model)
            inside.terms = cast(Objective, unwrap(objective)).infos()
            write_model(inside, work)
            write_adapters(inside, training)
            tensors = {k: v.cpu().contiguous() for k, v in weights(objective).items()}
            write_tensors(tensors, training / "objective.safetensors")
        if trained:
            tensors = {name: trained[p].cpu().contiguous() for name, p in named.items() if p in trained}
            write_tensors(tensors, training / "parameters.safetensors")
        write_optimizer(optimizer, named, training)
        write_json(training / "state.json", {"schema": schema, **state})
        write_sums(work, {"model.safetensors": read_json(work / "model.json")["sha256"]})
    with making_room(folder):
        point(run, folder, state, keep, better)
    return folder


def save_state(run: Path, state: dict[str, Any], *, keep: int = 2, better: bool | None = None) -> None:
    """Give RUN/checkpoints/step-N, which is there, another state. Its weights and optimiser stay."""
    folder = run / "checkpoints" / f"step-{state['step']:08d}"
    with making_room(folder):
        point(run, folder, state, keep, better)  # first: a kill in between leaves the validation due, not forgotten
        replace_json(folder, "training/state.json", {"schema": schema, **state})


@refuse_damage()
def load_training(
    folder: Path, model: nn.Module, objective: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Put a checkpoint's weights, objective and optimiser state in place, and return its state.

    Raises ValueError where the checkpoint belongs to another model, objective or optimiser, or to a newer align.
    """
    state, training = read_state(folder), folder / "training"
    kept = read_tensors(training / "objective.safetensors")
    dtypes = {f"objective.{name}": x.dtype for name, x in kept.items()}
    try:
        if is_sharded(model):
            found = put_sharded(model, folder)
        else:
            whole = read_tensors(folder / "model.safetensors")
            found = {name: x.dtype for name, x in whole.items()}
            put(model_inside(model), whole)
        put(objective, kept)
    except RuntimeError as error:
        raise ValueError(
            f"{folder} was trained with another model or objective than this config's; "
            f"use another --run, or --fresh to start over ({' '.join(str(error).split())[:300]})"
        ) from error
    adapted, anew = read_adapters(model_inside(model), training)
    named = named_parameters(model, objective)
    trained, states = read_states(training, named)
    for name, values in trained.items():
        if name in named and name not in anew and named[name].requires_grad:  # a frozen one stays as evaluated
            named[name].data.copy_(values)
    dtypes |= {f"model.{name}": dtype for name, dtype in found.items()} | adapted
    read_optimizer(optimizer, named, training, dtypes, anew, states)
    return state


def read_state(folder: Path) -> dict[str, Any]:
    """Return a checkpoint's ``training/state.json``. Raises ValueError for one that a newer align has written."""
    return migrate(read_json(folder / "training" / "state.json"), folder)
