"""The whole state of an optimiser, in and out: tensors as safetensors, everything else as JSON.

training/optimizer.safetensors   tensors by parameter and key: ``model.towers.image.head.weight/exp_avg``
training/optimizer.json          {"optimizer": class, "param_groups": [...], "state": {parameter: {...}}}

Parameters stand under their plain names. Schema 1 had no optimizer.json: its AdamW had tensors alone, one level deep,
and its groups were those of the config.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from align.checkpoint.layout import lay_out
from align.checkpoint.nested import pack, unpack
from align.encoders.weights import read_tensors, write_tensors
from align.files import read_json, write_json
from align.optim import Joined
from align.optim.averaged import drop_average


def write_optimizer(optimizer: Optimizer, named: Mapping[str, nn.Parameter], folder: Path) -> None:
    """Write the state of an optimiser into an existing folder.

    named: all parameters by name. Raises ValueError for a state that `pack` cannot write.
    """
    about, tensors = pack_optimizer(optimizer, named)
    write_tensors(tensors, folder / "optimizer.safetensors")
    write_json(folder / "optimizer.json", about)


def pack_optimizer(optimizer: Optimizer, named: Mapping[str, nn.Parameter]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the state of an optimiser as JSON and tensors by name. Raises ValueError as `write_optimizer` does."""
    names, state = _names(optimizer, named), optimizer.state_dict()
    state |= {
        "state": {names.get(key, key): value for key, value in state["state"].items()},
        "param_groups": [group | {"params": [names[i] for i in group["params"]]} for group in state["param_groups"]],
    }
    tensors: dict[str, Tensor] = {}
    about = {key: pack(value, "" if key == "state" else key, tensors) for key, value in state.items()}
    return {"optimizer": import_path(optimizer)} | about, tensors


def read_optimizer(
    optimizer: Optimizer,
    named: Mapping[str, nn.Parameter],
    folder: Path,
    dtypes: Mapping[str, torch.dtype],
    anew: Collection[str] = (),
    tensors: dict[str, Tensor] | None = None,
) -> None:
    """Put the state of a folder into an optimiser that has just been built.

    A group's values are the checkpoint's, counters of schedule-free optimisers among them, but for those that the
    config has changed since. A parameter that is frozen now loses its state, and one that was frozen then has none yet.

    dtypes: of all parameters in the checkpoint, by name. anew: parameters that begin without a state. tensors: of the
    folder. Default: those of its optimizer.safetensors.
    Raises ValueError where another optimiser has written it.
    """
    tensors = read_tensors(folder / "optimizer.safetensors") if tensors is None else tensors
    if (folder / "optimizer.json").is_file():
        saved = unpack(read_json(folder / "optimizer.json"), tensors)
    else:
        saved = {"optimizer": "torch.optim.AdamW", "state": _by_parameter(tensors), "param_groups": []}
    was, now = saved.pop("optimizer"), import_path(optimizer)
    if was != now:
        raise ValueError(
            f"{folder.parent} was trained by {was}, this config has {now}; use another --run, or --fresh to start over"
        )
    names, groups = _names(optimizer, named), saved["param_groups"]
    numbers = {name: i for i, name in names.items()}
    absent = {*named, *(name for group in groups for name in group["params"])} - {*numbers}  # now frozen, or gone
    absent |= {*anew}
    saved["state"] = {numbers.get(key, key): value for key, value in saved["state"].items() if key not in absent}
    of = {name: group for group in groups for name in group["params"]}
    saved["param_groups"] = [
        _merge(group, next((of[names[i]] for i in group["params"] if names[i] in of), {}))
        for group in optimizer.state_dict()["param_groups"]
    ]
    if not hasattr(optimizer, "weight_average"):
        drop_average(saved)
    optimizer.load_state_dict(saved)
    for i, values in optimizer.state_dict()["state"].items():  # torch casts all of a state to its parameter's dtype
        if i in names and named[names[i]].dtype == dtypes.get(names[i]):
            values |= {key: _uncast(value, saved["state"][i][key]) for key, value in values.items()}
        if i in names:
            values |= {key: lay_out(value, named[names[i]]) for key, value in values.items()}


def import_path(optimizer: Optimizer) -> str:
    """Return the shortest import path of an optimiser's class, with those of the parts of a Joined."""
    kind = type(optimizer)
    steps = kind.__module__.split(".")
    rooms = [".".join(steps[:n]) for n in range(1, len(steps))]
    room = next((r for r in rooms if getattr(sys.modules.get(r), kind.__name__, None) is kind), kind.__module__)
    parts = [import_path(part) for part in optimizer.parts] if isinstance(optimizer, Joined) else []
    return f"{room}.{kind.__qualname__}" + (f"({', '.join(parts)})" if parts else "")


def _names(optimizer: Optimizer, named: Mapping[str, nn.Parameter]) -> dict[int, str]:
    """Return the number of each parameter in the optimiser's state_dict, with its name."""
    names = {p: name for name, p in named.items()}
    return dict(enumerate(names[p] for group in optimizer.param_groups for p in group["params"]))


def _by_parameter(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return the state of schema 1: NAME/KEY -> tensor as {NAME: {KEY: tensor}}."""
    state: dict[str, dict[str, Tensor]] = {}
    for path, tensor in tensors.items():
        name, _, key = path.rpartition("/")
        state.setdefault(name, {})[key] = tensor
    return state


def _merge(built: dict[str, Any], saved: dict[str, Any]) -> dict[str, Any]:
    """Return the group of a resumed run: the checkpoint's values, but for those that the config has changed since."""
    now, before = built.get("initial", {}), saved.get("initial", {})
    changed = {"params", "param_names", "pattern", "initial"}
    changed |= {key for key in now if key in before and now[key] != before[key]}
    return built | {key: value for key, value in saved.items() if key not in changed}


def _uncast(value: Any, saved: Any) -> Any:
    """Return a loaded value in which the tensors and strings that torch's load_state_dict changes are as saved."""
    if isinstance(value, Tensor) and isinstance(saved, Tensor):
        return value if value.dtype == saved.dtype else saved.to(value.device)
    if isinstance(value, dict) and isinstance(saved, dict):
        return {key: _uncast(v, saved[key]) for key, v in value.items()}
    if isinstance(value, (list, tuple)) and isinstance(saved, (list, tuple)):
        return type(value)(_uncast(v, s) for v, s in zip(value, saved, strict=True))
    return saved if isinstance(saved, str) else value  # torch takes a string apart as it does a list
