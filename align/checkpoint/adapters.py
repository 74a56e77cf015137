"""Adapters of a run's checkpoint: training/adapters.safetensors, beside a model folder whose weights are merged.

It holds each adapter, its scale and the weights of its layer. The merged weights do not give these back to the bit.
A tensor's name is ``towers.image.encoder.fc/lora_A.default.weight``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from align.encoders.weights import read_tensors, write_tensors
from align.model import JointModel
from align.model.adapters import PEFT, find_adapters
from align.model.inside import plain_name

NAME = "adapters.safetensors"


def write_adapters(model: JointModel, folder: Path) -> None:
    """Write the adapters of a model into an existing folder, and no file where it has none."""
    tensors = {
        f"{path}/{name}": x.cpu().contiguous().clone()
        for path, adapter in _by_plain_name(model).items()
        for name, x in _state(adapter).items()
    }
    if tensors:
        write_tensors(tensors, folder / NAME)


def read_adapters(model: JointModel, folder: Path) -> tuple[dict[str, torch.dtype], set[str]]:
    """Load the adapters of a folder, and the weights of their layers, into a model with merged weights.

    An adapter stays as it is if the folder does not have it, or has another rank or scale. It begins anew on the merged
    weights.

    Returns the dtypes that the loaded parameters have in the folder, and the parameters that begin anew, by plain name.
    """
    saved = read_tensors(folder / NAME) if (folder / NAME).is_file() else {}
    plain, dtypes, anew = plain_name(model), {}, set()
    for path, adapter in _by_plain_name(model).items():
        state, start = _state(adapter), f"{path}/"
        was = {name[len(start) :]: x for name, x in saved.items() if name.startswith(start)}
        names = {name: f"model.{plain(f'{path}.{name}')}" for name in state if "lora_" in name}
        shapes = {name: x.shape for name, x in state.items()}
        if shapes == {name: x.shape for name, x in was.items()} and state["scale"] == was["scale"]:
            adapter.load_state_dict({name: x for name, x in was.items() if name != "scale"})
            dtypes |= {shown: was[name].dtype for name, shown in names.items()}
        else:
            anew.update(names.values())
    return dtypes, anew


def _by_plain_name(model: JointModel) -> dict[str, nn.Module]:
    plain = plain_name(model)
    return {plain(path): adapter for path, adapter in find_adapters(model).items()}


def _state(adapter: Any) -> dict[str, Tensor]:
    """Return the tensors of an adapter and of its layer, and the adapter's scale."""
    scale = adapter.scaling[PEFT] if hasattr(adapter, "scaling") else adapter.scale
    return {**adapter.state_dict(), "scale": torch.tensor(float(scale), dtype=torch.float64)}
