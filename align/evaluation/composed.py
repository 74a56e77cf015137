"""Queries of several modalities at once, which is how a term over more than two is read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from align.embedding.embed import vectors
from align.values import Embeddings, TermInfo


def composed(terms: Sequence[TermInfo], of: str) -> list[tuple[str, ...]]:
    """The query modalities, two or more and sorted, of every term over more than two that has `of` in it."""
    sets = {tuple(sorted(set(t.modalities) - {of})) for t in terms if of in t.modalities}
    return sorted(query for query in sets if len(query) >= 2)


def tuples(embeddings: Embeddings, modalities: Sequence[str]) -> tuple[dict[str, Tensor], Tensor]:
    """({modality: (n, D)}, samples (n,)) of the samples that have a row of each; of several rows, the first."""
    firsts = []
    for m in modalities:
        rows = embeddings.get(m)
        place: dict[int, int] = {}
        for i, sample in enumerate(rows.sample.tolist() if rows is not None else []):
            if sample >= 0:
                place.setdefault(sample, i)
        firsts.append(place)
    common = sorted(set.intersection(*(set(place) for place in firsts)))
    query = {}
    for m, place in zip(modalities, firsts, strict=True):
        if m in embeddings:
            query[m] = vectors(embeddings, m)[[place[s] for s in common]]
    return query, torch.tensor(common, dtype=torch.long)
