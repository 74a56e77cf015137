"""Queries of several modalities at once, by which a term over more than two modalities is measured."""

from __future__ import annotations

from collections.abc import Sequence

from align.values import TermInfo


def composed_queries(terms: Sequence[TermInfo], of: str) -> list[tuple[str, ...]]:
    """Return the query modalities, two or more and sorted, of each term over more than two that has `of` in it."""
    sets = {tuple(sorted(set(t.modalities) - {of})) for t in terms if of in t.modalities}
    return sorted(query for query in sets if len(query) >= 2)
