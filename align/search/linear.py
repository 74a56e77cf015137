"""Rules that are linear in the candidate: one query vector gives their scores in every index."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from align.scoring import How, fits
from align.values import TermInfo

CURVED = ("volume", "area", "span")
"""Kinds of terms that no single vector scores."""


class Linear(NamedTuple):
    """Scores as the inner product with one vector. vector: (q, D). constant: added to each score."""

    vector: Tensor
    constant: float = 0.0


def one_vector(query: Mapping[str, Tensor], how: How, of: str, terms: Sequence[TermInfo] = ()) -> Linear | None:
    """Return the vector and the constant whose inner product with a candidate is its score.

    The cosine sum is <Σ u_m, c>, the product is <Π u_m, c>, and a term of the objective adds its scale times one of
    these, and its bias. Returns None where a term measures a volume, an area or a span. For unit vectors in ``query``
    it is ``align.score``. For others the length of a vector is its weight.

    query: modality -> (q, D).
    """
    if how == "cosine":
        return Linear(torch.stack(list(query.values())).sum(0))
    if how == "mip":
        return Linear(_product(query, list(query)))
    read = [term for term in terms if fits(term, query, of)]
    if any(term.kind in CURVED for term in read):
        return None
    return sum_terms(query, of, read)


def sum_terms(query: Mapping[str, Tensor], of: str, terms: Sequence[TermInfo]) -> Linear:
    """Return the vector and the constant of terms that are linear in the candidate."""
    parts = [term.scale * _product(query, [m for m in term.modalities if m != of]) for term in terms]
    like = next(iter(query.values()))
    return Linear(torch.stack(parts).sum(0) if parts else torch.zeros_like(like), sum(term.bias for term in terms))


def _product(query: Mapping[str, Tensor], modalities: Sequence[str]) -> Tensor:
    return functools.reduce(torch.mul, [query[m] for m in modalities])  # (q, D)
