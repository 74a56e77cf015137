"""One model of several that were trained on subsets: the same encoders, and the average of their heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from align.checkpoint.describe import describe
from align.heads import Average, Identity
from align.model import JointModel, Tower
from align.model.inside import unwrap
from align.values import TermInfo


def average_models(models: Mapping[str, JointModel], weight: float = 1.0) -> JointModel:
    """Return a model whose heads are the averages of the heads of several models (FreeBind, arXiv:2405.04883).

    A head that is the same in all models stays as it is. The others become an ``align.heads.Average``. The base of its
    mixture is the encoder's own features, which live in the joint space where ``width`` is ``dim``. The scale of a term
    is the mean of the models' scales.

    models: name -> model, at least two of them. weight: the share of the average, the rest is the base's.

    Raises ValueError where the models differ in more than their heads, with the names of both, where no head differs,
    and for a weight below 1 where the features are no embeddings.
    """
    if len(models) < 2:
        raise ValueError(f"an average needs two models at least; got {len(models)}")
    (first, base), *others = models.items()
    for name, other in others:
        _check_alike(first, base, name, other)
    towers: dict[str, Tower] = {}
    averaged = 0
    for m in base.modalities:
        tower = unwrap(base.towers[m])
        heads = [unwrap(model.towers[m]).head for model in models.values()]
        head = heads[0]
        if not all(_is_same(head, other) for other in heads[1:]):
            head = _average(m, heads, weight)
            averaged += 1
        towers[m] = Tower(tower.preprocess, tower.encoder, head)
    if not averaged:
        raise ValueError(f"{first} and {others[0][0]} have the same heads; there is nothing to average")
    out = JointModel(towers, base.dim, base.share, base.normalize)
    out.terms = _average_terms([model.terms for model in models.values()])
    return out.eval()


def _check_alike(first: str, base: JointModel, name: str, other: JointModel) -> None:
    for attribute in ("modalities", "dim", "normalize", "share"):
        found, wanted = getattr(other, attribute), getattr(base, attribute)
        if (found or None) != (wanted or None):
            raise ValueError(f"{name} has {attribute} {found}, {first} has {wanted}; only heads may differ")
    for m in base.modalities:
        ours, theirs = unwrap(base.towers[m]), unwrap(other.towers[m])
        if describe(ours.preprocess) != describe(theirs.preprocess):
            raise ValueError(f"{name} and {first} preprocess {m} in two ways; only heads may differ")
        if not _is_same(ours.encoder, theirs.encoder):
            raise ValueError(f"{name} and {first} have two encoders of {m}; only heads may differ (freeze the encoder)")


def _is_same(a: nn.Module, b: nn.Module) -> bool:
    """Return True for modules of one description and the same weights to the bit."""
    if describe(a) != describe(b):
        return False
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(x, theirs[name]) for name, x in ours.items())


def _average(modality: str, heads: Sequence[Any], weight: float) -> nn.Module:
    width, dim = heads[0].width, heads[0].dim
    if weight < 1 and width != dim:
        raise ValueError(
            f"weight {weight:g} mixes the features of {modality} in, which have {width} numbers and the joint space "
            f"{dim}; only embeddings can be the base, so take weight 1"
        )
    return Average(width, dim, heads, Identity(width, dim) if weight < 1 else None, weight)


def _average_terms(all_terms: Sequence[Sequence[TermInfo]]) -> list[TermInfo]:
    """Return the terms with the mean scale and bias, or the first model's where the models have other terms."""
    kinds = {tuple((term.modalities, term.kind) for term in terms) for terms in all_terms}
    if len(kinds) > 1:
        return list(all_terms[0])
    n = len(all_terms)
    return [
        same[0]._replace(scale=sum(t.scale for t in same) / n, bias=sum(t.bias for t in same) / n)
        for same in zip(*all_terms, strict=True)
    ]
