"""Rules that are linear in the candidate: one query vector gives their scores in every index."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from align.losses.kernels.blocks import cut, place
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
    parts = [term.scale * _vector(query, of, term) for term in terms]
    like = next(iter(query.values()))
    return Linear(torch.stack(parts).sum(0) if parts else torch.zeros_like(like), sum(term.bias for term in terms))


def _vector(query: Mapping[str, Tensor], of: str, term: TermInfo) -> Tensor:
    """Return the vector (q, D) of a term at scale 1. Of a term with blocks it is 0 outside the candidate's."""
    others = [m for m in term.modalities if m != of]
    if not term.blocks:
        return _product(query, others)
    blocks = dict(zip(term.modalities, term.blocks, strict=True))
    inside = _product({m: cut(query[m], blocks[m]) for m in others}, others)
    return place(inside, blocks[of], query[others[0]].shape[1])


def _product(query: Mapping[str, Tensor], modalities: Sequence[str]) -> Tensor:
    return functools.reduce(torch.mul, [query[m] for m in modalities])  # (q, D)
