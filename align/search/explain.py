"""A match explained by its dimensions: the share that each has in an inner product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from align.scoring import How
from align.search.hits import read_rows
from align.search.parts import Part
from align.search.rule import make_rule
from align.search.searcher import Searcher


class Share(NamedTuple):
    """A dimension's part of a score. name: of the concept, or "dimension 12" where the head has no names."""

    name: str
    value: float


def explain(query: Tensor, row: Tensor, names: Sequence[str] | None = None, top: int = 5) -> list[Share]:
    """Return the dimensions with the greatest share in ⟨query, row⟩ by size, the greatest first. Zeros are left out.

    query, row: (D,). names: D of them, or None. The values of all D dimensions sum to the product.

    Raises ValueError for vectors or names of different lengths, and for a top below 1.
    """
    if query.ndim != 1 or query.shape != row.shape or (names is not None and len(names) != len(query)):
        sizes = f"{tuple(query.shape)}, {tuple(row.shape)}" + ("" if names is None else f" and {len(names)} names")
        raise ValueError(f"a match is explained by two vectors of one length, and as many names; got {sizes}")
    if top < 1:
        raise ValueError(f"top must be at least 1, got {top}")
    parts = query.double() * row.double()
    order = parts.abs().argsort(descending=True, stable=True)[:top].tolist()
    called = {d: f"dimension {d}" if names is None else str(names[d]) for d in order}
    return [Share(called[d], float(parts[d])) for d in order if parts[d] != 0]


def find_names(model: Any, modalities: Sequence[str]) -> list[str] | None:
    """Return the names of the dimensions, by the first head of these modalities that has them, or None."""
    for m in modalities:
        if m in model.towers and (names := getattr(model.towers[m].head, "names", None)) is not None:
            return list(names)
    return None


def explain_hits(
    searcher: Searcher, parts: Sequence[Part], of: str, numbers: Sequence[int], how: How | None, top: int
) -> list[list[Share]]:
    """Return for each found sample the dimensions that its score comes from.

    Raises ValueError for a rule that is not linear in the candidate, a volume or an area.
    """
    rule = make_rule(searcher.model, parts, searcher.embed(parts), of, how)
    if rule.linear is None:
        raise ValueError("a volume or an area is no sum over dimensions; explain a search with --how cosine")
    values, sample = read_rows(searcher.index, of, numbers)
    _, found, places = rule.best_rows(values, sample)
    unit = values if rule.scaled else F.normalize(values, dim=1)
    best = dict(zip(found.tolist(), places.tolist(), strict=True))
    names = find_names(searcher.model, [of, *(part.modality for part in parts)])
    return [explain(rule.linear.vector[0].cpu(), unit[best[n]], names, top) for n in numbers]
