"""A loaded model with the weights of a soup. One model is in memory, and a tensor of an ingredient."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from align.checkpoint.fingerprint import remember
from align.model import JointModel
from align.soup.averages import each_average
from align.soup.facts import merge_terms
from align.soup.ingredients import Ingredient
from align.values import TermInfo


@torch.no_grad()
def fill(model: JointModel, ingredients: Sequence[Ingredient], weights: Sequence[float]) -> None:
    """Put Σ wᵢ·θᵢ into a model of their architecture, on its device and in its precision, and their merged terms."""
    state = model.state_dict()
    for name, x, _ in each_average(ingredients, weights, list(state)):
        state[name].copy_(x)
    terms, _ = merge_terms(ingredients, weights)
    model.terms = [TermInfo.from_json(term) for term in terms]
    said = repr([(one.about.get("sha256"), weight) for one, weight in zip(ingredients, weights, strict=True)])
    remember(model, hashlib.sha256(said.encode()).hexdigest())  # these weights are in no file, and need no checksum
