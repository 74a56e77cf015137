"""The model whose towers end after one of their layers, of encoders that are ``align.encoders.Layered``."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from align.encoders.layered import Layered, cut_after
from align.model.inside import unwrap
from align.model.joint import JointModel


def at_layer(model: JointModel, layer: int, of: str | None = None) -> JointModel:
    """Return the model whose layered towers end after a layer. It has the parameters of ``model``, and fewer blocks.

    of: the modality whose tower ends there. None: all that are layered. A saved model is the smaller one.

    Raises ValueError where no such tower is layered, and for a layer that a tower does not name.
    """
    view = _copy(model)
    view.towers = towers = nn.ModuleDict()
    cut = 0
    for m, tower in model.towers.items():
        towers[m] = tower
        if of in (None, m) and "encoder" in tower._modules and isinstance(tower.encoder, Layered):
            towers[m] = _copy(tower)
            towers[m]._modules["encoder"] = cut_after(tower.encoder, layer)
            cut += 1
    if not cut:
        layered = [m for m, tower in model.towers.items() if isinstance(tower.encoder, Layered)]
        raise ValueError(f"the towers with layers are {', '.join(layered) or 'none'}; got {of or 'no name'}")
    for borrower, lender in (model.share or {}).items():
        towers[borrower] = _copy(towers[borrower])
        towers[borrower].__dict__["_lender"] = towers[lender]  # past nn.Module, as ``Tower.borrow`` does
    return view


def _copy(module: Any) -> Any:
    """Return a module of the same parameters, buffers and parts, whose attributes may be others."""
    made = copy.copy(unwrap(module))
    made._modules = dict(made._modules)
    return made
