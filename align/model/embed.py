"""Lists of raw inputs -> embeddings, row i for input i."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from align.model.naming import naming, short

if TYPE_CHECKING:
    from align.model.joint import JointModel


@torch.no_grad()
def embed(model: JointModel, inputs: Mapping[str, Any], batch_size: int = 64) -> dict[str, Tensor]:
    """{modality: list of inputs} -> {modality: (n, D)}; what ``JointModel.embed`` promises."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    lists = {name: _listed(model, name, given) for name, given in inputs.items()}
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        return {name: _embed(model, name, given, batch_size) for name, given in lists.items()}
    finally:
        for module, mode in modes:
            module.training = mode


def _listed(model: JointModel, name: str, given: Any) -> list[Any]:
    if name not in model.towers:
        near = difflib.get_close_matches(name, model.modalities, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no tower for {name!r}, the model has {', '.join(model.modalities)}{hint}")
    single = isinstance(given, str | bytes | bytearray | os.PathLike | Mapping)
    if single or not (hasattr(given, "__iter__") or hasattr(given, "__len__")):
        one = short(given)
        raise TypeError(f"embed takes a list for each modality: {name}=[{one}], not {name}={one}")
    return list(given)


def _embed(model: JointModel, name: str, given: list[Any], batch_size: int) -> Tensor:
    tower = model.towers[name]
    out = []
    for start in range(0, max(len(given), 1), batch_size):
        rows = []
        for i, x in enumerate(given[start : start + batch_size], start):
            with naming(f"{name}[{i}] ({short(x)})"):
                rows.append(tower.preprocess.row(x))
        out.append(model._unit(tower(model._on_device(tower.preprocess.collate(rows)))))
    return torch.cat(out)
