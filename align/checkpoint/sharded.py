"""Checkpoints of a run whose weights FSDP2 has sharded: the same folder, with the optimiser's state in shards.

RUN/checkpoints/step-00000100/training/shards/   tensors of sharded parameters, a file a rank (see shards.py)

The model folder around it is whole, so that everything that reads a model reads it. Numbers, groups and the tensors
that are whole on every rank stand where they stand in other checkpoints. Any number of ranks can load it, sharded or
not, and a sharded run loads a checkpoint of another.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from align.checkpoint.optimizer import pack_optimizer
from align.checkpoint.shards import FOLDER, read_into, read_split, read_stated, write_shards
from align.checkpoint.sums import write_sums
from align.checkpoint.together import shared_folder, together
from align.checkpoint.write import write_model
from align.distributed import rank
from align.encoders.weights import read_tensors, write_tensors
from align.files import write_json
from align.model.inside import in_shards, model_inside, plain_name, unwrap, weights
from align.model.sharding import gather_weights
from align.objective import Objective
from align.optim import evaluating, named_parameters


def write_sharded(
    folder: Path, model: nn.Module, objective: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> None:
    """Write the folder of a checkpoint, on all ranks, which call it together.

    Raises OSError on every rank where one cannot write. The folder is then as it was.
    """
    named = named_parameters(model, objective)
    inside = model_inside(model)
    with shared_folder(folder) as work:
        training = work / "training"
        with evaluating(optimizer) as trained:
            tensors = gather_weights(inside)
            with together():
                if rank() == 0:
                    training.mkdir()
                    inside.terms = cast(Objective, unwrap(objective)).infos()
                    write_model(inside, work, tensors)
                    kept = {k: v.cpu().contiguous() for k, v in weights(objective).items()}
                    write_tensors(kept, training / "objective.safetensors")
        del tensors
        values = {name: trained[p] for name, p in named.items() if p in trained}
        about, states = pack_optimizer(optimizer, named)
        split = {name: x for name, x in {**values, **states}.items() if in_shards(x)}
        if split:
            write_shards(split, training / FOLDER)
        with together():
            if rank() == 0:
                whole = {name: x.cpu().contiguous() for name, x in values.items() if name not in split}
                if whole:
                    write_tensors(whole, training / "parameters.safetensors")
                left = {name: x for name, x in states.items() if name not in split}
                write_tensors(left, training / "optimizer.safetensors")
                write_json(training / "optimizer.json", about)
                write_json(training / "state.json", state)
        with together():  # all ranks have written
            if rank() == 0:
                write_sums(work)


def put_sharded(model: nn.Module, folder: Path) -> dict[str, torch.dtype]:
    """Fill a sharded model with the rows of a checkpoint's model.safetensors that belong to this rank.

    Returns name -> dtype in the file. Raises RuntimeError, as torch's load_state_dict does, for another model's file.
    """
    inside, stated = model_inside(model), read_stated(folder)
    plain = plain_name(inside)
    state = {plain(name): x for name, x in inside.state_dict().items()}
    odd = sorted(state.keys() ^ stated.keys())
    odd += [name for name in state.keys() & stated.keys() if tuple(state[name].shape) != stated[name].shape]
    if odd:
        raise RuntimeError(f"{len(odd)} weights are not there or have another shape, {odd[0]} among them")
    read_into(state, folder)
    return {name: one.dtype for name, one in stated.items()}


def read_states(training: Path, named: dict[str, nn.Parameter]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the training values of parameters by name, {} where they are the model's, and the optimiser's tensors.

    Both are whole, or sharded as their parameters are.
    """
    parts: list[dict[str, Tensor]] = []
    for name in ("parameters.safetensors", "optimizer.safetensors"):
        parts.append(read_tensors(training / name) if (training / name).is_file() else {})
    values, states = parts
    sharded = {name: p for name, p in named.items() if in_shards(p)}
    if (training / FOLDER).is_dir():
        found = read_split(training / FOLDER, named)
        values |= {name: x for name, x in found.items() if "/" not in name}
        states |= {name: x for name, x in found.items() if "/" in name}
    if sharded:
        values = {name: _split_like(x, sharded.get(name)) for name, x in values.items()}
        states = {name: _split_like(x, sharded.get(name.partition("/")[0])) for name, x in states.items()}
    return values, states


def _split_like(x: Tensor, owner: Tensor | None) -> Tensor:
    """Return the rows of this rank of a whole tensor in the shape of a sharded parameter, and others as they are."""
    if owner is None or in_shards(x) or x.shape != owner.shape:
        return x
    from torch.distributed.tensor import distribute_tensor

    like: Any = owner
    return distribute_tensor(x.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
