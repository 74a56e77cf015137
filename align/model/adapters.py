"""Low-rank adapters inside a model (Hu et al. 2021, arXiv:2106.09685), and the weights that each makes with its layer.

An adapter replaces its layer and holds it as ``base_layer``, as peft's adapters do. The names and weights of a model
are those of its layers: a name skips ``base_layer``, and a weight is the sum of the layer's and the adapter's.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

BASE, PEFT = "base_layer", "default"
"""The child of an adapter that is its layer, and the name that peft gives an adapter's matrices."""


def is_adapter(module: Any) -> bool:
    """Return True for an adapter with the layer inside."""
    return hasattr(module, "merge") and isinstance(getattr(module, BASE, None), nn.Module)


def find_adapters(module: nn.Module) -> dict[str, nn.Module]:
    """Return path -> adapter."""
    return {path: part for path, part in module.named_modules() if is_adapter(part)}


def skipped_steps(path: str, adapter: nn.Module) -> Iterator[str]:
    """Yield the paths inside an adapter whose last step is not part of a parameter's name. path: of the adapter."""
    yield f"{path}.{BASE}".removeprefix(".")
    for name, part in adapter.named_children():
        if name != BASE and isinstance(part, nn.ModuleDict | nn.ParameterDict):
            yield f"{path}.{name}.{PEFT}".removeprefix(".")


@torch.no_grad()
def merge(adapter: Any) -> nn.Module:
    """Return a copy of an adapter's layer with the sum of both in its weights. The adapter stays as it is."""
    merged = copy.deepcopy(adapter)
    merged.merge()
    return merged.base_layer


def merge_weights(state: dict[str, Any], module: nn.Module) -> dict[str, Any]:
    """Return a module's state dict without adapters, in its order, with merged weights in the layers inside them."""
    for path, adapter in find_adapters(module).items():
        start = f"{path}." if path else ""
        inside = f"{start}{BASE}."
        merged = {f"{inside}{name}": x for name, x in merge(adapter).state_dict().items()}
        kept = {name: x for name, x in state.items() if not name.startswith(start) or name.startswith(inside)}
        state = {name: merged.get(name, x) for name, x in kept.items()}
    return state


def read_adapters(module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of all adapters, and of the layers inside them, by their paths in a module."""
    found = {}
    for path, adapter in find_adapters(module).items():
        found |= {f"{path}.{name}": x.detach() for name, x in adapter.state_dict().items()}
    return found
