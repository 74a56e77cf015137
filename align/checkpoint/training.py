"""Checkpoints of a run in training: the model, and beside its weights what a run needs to go on.

RUN/checkpoints/step-00000100/training/  objective.safetensors, optimizer.safetensors, state.json
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from align.checkpoint.folder import write_model
from align.checkpoint.run import index
from align.files import atomic_folder, read_json, write_json
from align.model.inside import model_inside, plain_name, put, weights
from align.model.tensors import read_tensors


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

    Args:
        model: a JointModel, or what is wrapped around one; objective: likewise. Raises ValueError for sharded weights.
        better: true where this is the best so far, None where nothing is monitored.
        keep: how many of the newest stay; the best stays too.
    """
    from safetensors.torch import save_file

    folder = run / "checkpoints" / f"step-{state['step']:08d}"
    with atomic_folder(folder) as work:
        write_model(model_inside(model), work)
        (work / "training").mkdir()
        save_file(
            {k: v.cpu().contiguous() for k, v in weights(objective).items()},
            work / "training" / "objective.safetensors",
        )
        save_file(_flat(optimizer, model, objective), work / "training" / "optimizer.safetensors")
        write_json(work / "training" / "state.json", state)
    _point(run, folder, state, keep, better)
    return folder


def save_state(run: Path, state: dict[str, Any], *, keep: int = 2, better: bool | None = None) -> None:
    """Give RUN/checkpoints/step-N, which is there, another state: weights and optimiser stay."""
    folder = run / "checkpoints" / f"step-{state['step']:08d}"
    _point(run, folder, state, keep, better)  # first: a kill in between leaves the validation due, not forgotten
    write_json(folder / "training" / "state.json", state)


def _point(run: Path, folder: Path, state: dict[str, Any], keep: int, better: bool | None) -> None:
    """Point the index at a checkpoint, and remove those that need not stay."""
    known = index(run) | {"last": folder.name}
    if better:
        known |= {"best": folder.name, "monitor": state.get("monitor"), "value": state.get("value")}
    write_json(run / "checkpoints" / "index.json", known)
    newest = sorted((run / "checkpoints").glob("step-*"))[-max(1, keep) :]
    for old in (run / "checkpoints").glob("step-*"):
        if old not in newest and old.name not in (known.get("best"), known["last"]):
            shutil.rmtree(old, ignore_errors=True)


def load_training(
    folder: Path, model: nn.Module, objective: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Put a checkpoint's weights, objective and optimiser state in place; returns its state.

    Raises ValueError where the checkpoint belongs to another model or objective.
    """
    try:
        put(model_inside(model), read_tensors(folder / "model.safetensors"))
        put(objective, read_tensors(folder / "training" / "objective.safetensors"))
    except RuntimeError as error:
        raise ValueError(
            f"{folder} was trained with another model or objective than this config's; "
            f"use another --run, or --fresh to start over ({' '.join(str(error).split())[:300]})"
        ) from error
    flat = read_tensors(folder / "training" / "optimizer.safetensors")
    names = _names(optimizer, model, objective)
    for parameter, name in names.items():
        found = {key.rpartition("/")[2]: value for key, value in flat.items() if key.rpartition("/")[0] == name}
        if found:
            optimizer.state[parameter] = {
                k: v if k == "step" else v.to(parameter.device, parameter.dtype) for k, v in found.items()
            }
    return read_json(folder / "training" / "state.json")


def _names(optimizer: torch.optim.Optimizer, model: nn.Module, objective: nn.Module) -> dict[nn.Parameter, str]:
    names: dict[nn.Parameter, str] = {}
    for of, module in (("model", model_inside(model)), ("objective", objective)):
        plain = plain_name(module)
        names |= {p: f"{of}.{plain(name)}" for name, p in module.named_parameters()}
    return {p: names[p] for group in optimizer.param_groups for p in group["params"]}


def _flat(optimizer: torch.optim.Optimizer, model: nn.Module, objective: nn.Module) -> dict[str, torch.Tensor]:
    return {
        f"{name}/{key}": torch.as_tensor(value).detach().cpu().contiguous()
        for parameter, name in _names(optimizer, model, objective).items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
