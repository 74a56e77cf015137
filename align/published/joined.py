"""Published models side by side in one space, and models of fewer towers."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence

from align.model import JointModel, Tower
from align.values import TermInfo


def join(model: JointModel, others: Mapping[str, JointModel]) -> JointModel:
    """Return a model with the towers of all, as they are, and the trained terms of all.

    others: LAYOUT:SOURCE -> a model of the space that ``model`` was aligned to.
    Raises ValueError for another dim or length of vectors, and for a modality that two of them have.
    """
    towers, share, terms = dict(model.towers.items()), dict(model.share or {}), list(model.terms)
    tied = dict(model.tied or {})
    for name, other in others.items():
        if other.dim != model.dim:
            sizes = f"{other.dim} numbers, the model beside it of {model.dim}"
            raise ValueError(f"{name} has vectors of {sizes}: they are not of one space")
        if other.normalize != model.normalize:
            raise ValueError(f"{name} and the model beside it do not both have unit vectors")
        if twice := sorted(set(towers) & set(other.modalities)):
            raise ValueError(
                f"{name} has a tower {twice[0]!r} too; models beside each other have no modality in common"
            )
        towers |= dict(other.towers.items())
        share |= other.share or {}
        tied |= other.tied or {}
        terms += other.terms
    _hold_encoders(towers)
    joined = JointModel(towers, model.dim, share or None, model.normalize, tied or None)
    joined.terms = terms
    return joined.eval()


def keep_towers(model: JointModel, names: Sequence[str]) -> JointModel:
    """Return a model of some towers of another, with the terms between them. The weights are the same tensors.

    The other model stays as it is, also where its towers share parts.

    Raises ValueError for a name that the model has no tower for.
    """
    for name in names:
        if name not in model.towers:
            raise ValueError(f"no tower {name!r}; the towers are {', '.join(model.modalities)}")
    if model.share or model.tied:
        model = _copy_modules(model)
    share = {b: lender for b, lender in (model.share or {}).items() if b in names and lender in names}
    towers = {name: model.towers[name] for name in model.modalities if name in names}
    _hold_encoders(towers)
    tied = {b: a for b, a in (model.tied or {}).items() if {b.partition(".")[0], a.partition(".")[0]} <= {*names}}
    kept = JointModel(towers, model.dim, share or None, model.normalize, tied or None)
    kept.terms = terms_between(model, names)
    return kept.eval()


def _copy_modules(model: JointModel) -> JointModel:
    """Return the model with modules of its own around the same tensors: a new model changes which tower holds what."""
    return copy.deepcopy(model, {id(x): x for x in (*model.parameters(), *model.buffers())})


def terms_between(model: JointModel, names: Collection[str]) -> list[TermInfo]:
    """Return the trained terms of a model whose modalities are all among the names."""
    return [term for term in model.terms if set(term.modalities) <= set(names)]


def _hold_encoders(towers: Mapping[str, Tower]) -> None:
    """Give each tower that borrowed its encoder that encoder itself. A new model lends it again where it shares it."""
    for tower in towers.values():
        tower.encoder = tower.encoder
