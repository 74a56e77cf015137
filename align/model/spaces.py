"""Spaces of a model whose heads are ``align.heads.Streams``, and the model as it reads one of them."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from types import MethodType
from typing import Any

from torch import Tensor, nn

from align.losses.kernels.blocks import Block, find_block, place
from align.model.inside import unwrap
from align.model.joint import JointModel
from align.values import Features


def list_spaces(model: JointModel) -> dict[str, list[str]]:
    """Return modality -> the names of its head's spaces, of the towers that have some.

    Raises ValueError where two towers name them otherwise, or in another order: a space is the same coordinates in all.
    """
    found = {m: [*tower.head.spaces] for m, tower in model.towers.items() if hasattr(tower.head, "spaces")}
    for m, names in found.items():
        first, wanted = next(iter(found.items()))
        if names != wanted:
            raise ValueError(f"the head of {first} has the spaces {', '.join(wanted)}, that of {m} {', '.join(names)}")
    return found


def in_space(model: JointModel, name: str) -> JointModel:
    """Return the model as it reads one space: its embeddings are 0 outside of the space's block, and unit vectors.

    So a cosine is the one in the space, and such a query asks an index of whole rows in the space too. It has the
    weights of ``model``, and of its trained terms those in this space. A tower without Streams gives its block as well.

    Raises ValueError for a model without spaces, and for a name that is none of them.
    """
    found = list_spaces(model)
    if not found:
        raise ValueError("the model has no spaces: no tower's head is align.heads.Streams")
    block = find_block(next(iter(found.values())), name, model.dim)
    view = in_block(model, block)
    view.terms = [term._replace(blocks=()) for term in model.terms if {*term.blocks} == {block}]
    return view


def in_block(model: JointModel, block: Block) -> JointModel:
    """Return the model whose embeddings are 0 outside of some coordinates, and unit vectors. It keeps all terms.

    A cosine is that of these coordinates alone: (0, d) are the first d, a prefix that Matryoshka trains.
    """
    view = _copy(model)
    towers = nn.ModuleDict()
    for m, tower in model.towers.items():
        towers[m] = _copy(tower)
        towers[m].head = head = _copy(tower.head)
        head.forward = functools.partial(_read_block, MethodType(type(head).forward, head), block)
    view.towers = towers
    return view


def _copy(module: Any) -> Any:
    """Return a module of the same parameters, buffers and parts, whose attributes may be others."""
    made = copy.copy(unwrap(module))
    made._modules = dict(made._modules)
    return made


def _read_block(forward: Callable[..., Any], block: Block, features: Features, tokens: bool = False) -> Any:
    out = forward(features, tokens=tokens)
    return tuple(_keep(x, block) for x in out) if tokens else _keep(out, block)


def _keep(x: Tensor, block: Block) -> Tensor:
    return place(x[..., slice(*block)], block, x.shape[-1])
